/**
 * What the administrator's routes stand on, and the answers that they share. It owns the words for
 * what is not there; it registers no route.
 */
import { ConflictError, FieldError, FieldRangeError } from "../../../src/util/errors.ts";
import type { Store } from "../../../adapters/store/store.ts";
import type { Access } from "../../access/auth.ts";
import { ApiError, invalid } from "../errors.ts";
import type { KeyHash } from "../../access/key_hash.ts";

export interface AdminServices {
  readonly store: Pick<
    Store,
    "kind" | "forTenant" | "tenants" | "keys" | "jobs" | "cores" | "factors" | "usage" | "backup"
  >;
  readonly hash: KeyHash;
  /** The tenant that a change is for (`Access.admit`). */
  readonly admit: Access["admit"];
}

export const ADMIN_TAG = "administration";

/** Unix milliseconds as the API has them. */
export function seconds(milliseconds: number): number;
export function seconds(milliseconds: number | null): number | null;
export function seconds(milliseconds: number | null): number | null {
  return milliseconds === null ? null : Math.floor(milliseconds / 1000);
}

/** 404 for what this tenant does not have, whoever else may. */
export function noSuch(kind: string, id: string): ApiError {
  return new ApiError(404, `No such ${kind}: ${id.slice(0, 80)}`, {
    param: "id",
    code: `${kind.replaceAll(" ", "_")}_not_found`,
  });
}

/** How a refusal of the store is answered. */
interface RefusalAnswers {
  /** The request's name of the field, where it is another than the store's. */
  readonly param?: string;
  /** For what cannot be had as things stand. */
  readonly unfit?: 400 | 409;
}

/**
 * What the store refuses, as the caller's mistake: what is wrong 400, what is taken 409. Anything else
 * that it throws is a fault of ours.
 */
export async function storing<T>(
  write: () => Promise<T>,
  { param, unfit = 400 }: RefusalAnswers = {},
): Promise<T> {
  try {
    return await write();
  } catch (error) {
    if (error instanceof FieldError) throw invalid(param ?? error.field, error.message);
    const isUnfit = error instanceof FieldRangeError;
    if (!isUnfit && !(error instanceof ConflictError)) throw error;
    if (isUnfit && unfit === 400) throw invalid(param ?? error.field, error.message);
    throw new ApiError(409, error.message, { param: param ?? error.field, code: "conflict" });
  }
}
