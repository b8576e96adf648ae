/** Lists that are longer than a page: which part an address asks for. */
import { FieldRangeError } from "../../src/util/errors.ts";
import type { Page, PageQuery } from "../../adapters/store/store.ts";
import type { AppContext } from "../context.ts";
import { ApiError } from "../errors.ts";

/** Items on a page of the console. */
export const PAGE_ITEMS = 50;

/**
 * The items behind the one that the address's `after` names.
 * @throws {ApiError} 404 where there is none
 */
export async function readPage<T>(
  c: AppContext,
  list: (query: PageQuery) => Promise<Page<T>>,
  order: PageQuery["order"] = "desc",
): Promise<Page<T>> {
  try {
    return await list({ after: c.req.query("after"), limit: PAGE_ITEMS, order });
  } catch (error) {
    if (!(error instanceof FieldRangeError)) throw error;
    throw new ApiError(404, "This part of the list is gone. Begin at its start.", {
      code: "not_found",
      cause: error,
    });
  }
}
