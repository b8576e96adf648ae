/**
 * What all pages of the console share: server, store, gate, the frame of a page, and which tenants
 * a visitor may see.
 */
import type { Hono } from "hono";
import { PAGE_ITEMS } from "./listing.ts";
import type { AppContext, AppEnv, ServerContext } from "../context.ts";
import { ApiError } from "../errors.ts";
import { isAdministrator, sees } from "../access/access.ts";
import type { AdminServices } from "../http/routes/admin_context.ts";
import type { AssetPaths } from "./assets.ts";
import type { Gate } from "./gate.ts";
import type { Frame } from "./parts.tsx";
import type { Traffic } from "../telemetry/traffic.ts";

export type ConsoleApp = Hono<AppEnv>;

/** Notices after a change, by the code `done` in the address that the change redirected to. */
const NOTICES: Readonly<Record<string, string>> = {
  created: "The tenant is there.",
  removed: "The tenant is gone, with all it had.",
  limits: "The limits are changed; every replica knows within a second.",
  revoked: "The key is revoked; no replica takes it any more within a second.",
  published: "The version is published; the next request gets it.",
  "rolled-back": "Rolled back; the next request gets the version before.",
  deleted: "Deleted; requests that run end with it.",
  cancel: "The job is cancelled.",
  pause: "The job pauses where it can go on.",
  resume: "The job goes on.",
};

export class Desk {
  constructor(
    readonly server: ServerContext,
    readonly admin: AdminServices,
    readonly gate: Gate,
    readonly assets: AssetPaths,
    readonly traffic: Traffic,
  ) {}

  /** The frame of a page, of whoever has come in. */
  frame(c: AppContext): Frame {
    return {
      assets: this.assets,
      model: this.server.model.id,
      principal: c.get("principal"),
      session: this.gate.mode === "keys",
      formToken: this.gate.formToken(c),
      path: c.req.path,
      notice: NOTICES[c.req.query("done") ?? ""],
    };
  }

  /** The tenant whose things a list shows; undefined = all tenants', for administrators. */
  scope(c: AppContext): string | undefined {
    const principal = c.get("principal");
    return isAdministrator(principal) ? undefined : principal.tenant;
  }

  /**
   * The tenants that a visitor may choose from: for administrators the newest ones, else its own.
   */
  async tenants(c: AppContext): Promise<readonly string[]> {
    const own = this.scope(c);
    if (own !== undefined) return [own];
    const { tenants } = this.admin.store;
    const page = await tenants.list({ after: undefined, limit: PAGE_ITEMS, order: "desc" });
    return page.items.map(({ id }) => id);
  }

  /**
   * The tenant that a path names.
   * @throws {ApiError} 404 where the visitor must not see it, as where there is none
   */
  tenantIn(c: AppContext): string {
    const tenant = c.req.param("tenant") ?? "";
    if (sees(c.get("principal"), tenant)) return tenant;
    throw missing("tenant", tenant);
  }

  /** @throws {ApiError} 404 for who is no administrator: for others there is no such page */
  administratorOnly(c: AppContext): void {
    if (!isAdministrator(c.get("principal"))) throw missing("page", c.req.path);
  }
}

/** 404 as pages say it. */
export function missing(kind: string, name: string): ApiError {
  return new ApiError(404, `There is no ${kind} '${name.slice(0, 80)}' here.`, {
    code: "not_found",
  });
}
