/**
 * The administrator's endpoints over a store in this process: with `storeFetch` the command does on a
 * store what it does on a server, by the same code.
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { AppEnv } from "../../context.ts";
import { toApiError } from "../../errors.ts";
import { JsonBodies } from "../../http/json_body.ts";
import { actingFor, administrator, TENANT_HEADER } from "../../access/access.ts";
import { registerAdmin } from "../../http/routes/admin.ts";
import type { AdminServices } from "../../http/routes/admin_context.ts";
import { registerCores } from "../../http/routes/cores.ts";
import type { Fetch } from "../client.ts";

/** A core in JSON, at its largest. */
const MAX_BODY_BYTES = 1 << 28;

/**
 * While a store has no keys it is open, as on a server: a tenant is made when it is first named.
 */
export function storeFetch({ store, hash }: Omit<AdminServices, "admit">): Fetch {
  const admit = async (id: string) =>
    await store.keys.countUsable() === 0 ? await store.tenants.ensure(id) : store.tenants.find(id);
  const services = { store, hash, admit };
  const app = new OpenAPIHono<AppEnv>();
  const bodies = new JsonBodies(MAX_BODY_BYTES);
  app.use(async (c, next) => {
    const tenant = c.req.header(TENANT_HEADER);
    const own = administrator();
    c.set("principal", tenant === undefined ? own : actingFor(own, tenant));
    c.set("bodies", bodies);
    await next();
  });
  app.onError((error) => {
    const failure = toApiError(error, "");
    // who runs the command also reads the server's log: the error itself is of more use
    if (failure.status >= 500) throw error;
    return failure.response();
  });
  registerAdmin(app, services);
  const none = { base: undefined, factors: undefined, adapters: undefined };
  registerCores(app, { cores: store.cores, ...none, admit });
  return async (path, init) => await app.request(path, init);
}
