/** What the administrator's routes and the console work with, and their 404. */
import type { Store } from "../../../adapters/store/store.ts";
import type { Access } from "../../access/access.ts";
import { ApiError } from "../../errors.ts";
import type { KeyHash } from "../../access/keys.ts";

export interface AdminServices {
  readonly store: Pick<
    Store,
    "kind" | "forTenant" | "tenants" | "keys" | "jobs" | "cores" | "factors" | "usage" | "backup"
  >;
  /** Digest of the base that this server serves; undefined = factor sets of any base are taken. */
  readonly base?: string | undefined;
  readonly hash: KeyHash;
  /** The tenant that a change is for; open mode makes it (`Access.admit`). */
  readonly admit: Access["admit"];
}

export const ADMIN_TAG = "administration";

/** 404 for what this tenant does not have, whether another one has it or not. */
export function noSuch(kind: string, id: string): ApiError {
  return new ApiError(404, `No such ${kind}: ${id.slice(0, 80)}`, {
    param: "id",
    code: `${kind.replaceAll(" ", "_")}_not_found`,
  });
}
