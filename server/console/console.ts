/**
 * The console at `/console`: HTML pages for people with a key. Assets and the sign-in page are
 * open; all others pass the gate. Errors become pages, too.
 */
import { Hono, type Next } from "hono";
import { bodyLimit } from "hono/body-limit";
import { accessOf } from "../access/access.ts";
import type { App, AppContext, AppEnv, ServerContext } from "../context.ts";
import { toApiError } from "../errors.ts";
import { logFailure } from "../telemetry/log.ts";
import type { AdminServices } from "../http/routes/admin_context.ts";
import { registerAssets } from "./assets.ts";
import { type ConsoleApp, Desk, missing } from "./desk.ts";
import { Gate } from "./gate.ts";
import { registerCorePages } from "./pages/cores.tsx";
import { registerJobPages } from "./pages/jobs.tsx";
import { registerOverview } from "./pages/overview.tsx";
import { registerPlayground } from "./pages/playground.tsx";
import { Problem, registerSignIn, registerSignOut } from "./pages/sign_in.tsx";
import { registerTenant } from "./pages/tenant.tsx";
import { registerTenants } from "./pages/tenants.tsx";
import { Sessions } from "./session.ts";
import { Traffic } from "../telemetry/traffic.ts";

/** Bytes of a form at most; prompts are the longest. */
const MOST_FORM_BYTES = 1 << 20;

/** Registers the console over a server with a store. */
export function registerConsole(app: App, server: ServerContext, admin: AdminServices): void {
  const access = server.access ?? accessOf(server.options.apiKey);
  const sessions = new Sessions({
    hash: admin.hash,
    keys: admin.store.keys,
    apiKey: server.options.apiKey,
  });
  const gate = new Gate({ mode: access.mode, sessions });
  const pages: ConsoleApp = new Hono<AppEnv>();
  pages.use(notKept);
  pages.use(bodyLimit({ maxSize: MOST_FORM_BYTES }));
  const assets = registerAssets(pages);
  const traffic = server.traffic ?? new Traffic();
  const desk = new Desk(server, admin, gate, assets, traffic);
  pages.onError((error, c) => problem(error, c, desk));
  registerSignIn(pages, desk, (authorization) => access.principal(authorization));
  pages.use((c, next) => gate.enter(c, next));
  registerOverview(pages, desk);
  registerTenants(pages, desk);
  registerTenant(pages, desk);
  registerCorePages(pages, desk);
  registerJobPages(pages, desk);
  registerPlayground(pages, desk);
  registerSignOut(pages, desk);
  pages.all("*", (c) => {
    throw missing("page", c.req.path);
  });
  app.route("/console", pages);
}

/** Pages are a session's: no cache keeps them, unless an answer says otherwise. */
async function notKept(c: AppContext, next: Next): Promise<void> {
  await next();
  if (!c.res.headers.has("cache-control")) c.res.headers.set("cache-control", "no-store");
}

function problem(error: unknown, c: AppContext, desk: Desk): Response | Promise<Response> {
  const failure = toApiError(error, c.get("requestId"));
  logFailure(desk.server.log, c.get("requestId"), failure);
  return c.html(Problem({ desk, c, problem: failure.message }), failure.status);
}
