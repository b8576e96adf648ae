/** Cuts pages from lists in memory. */
import { FieldRangeError } from "../../src/util/errors.ts";
import type { Page, PageQuery } from "./paging.ts";

/**
 * The page of a list that is sorted oldest first.
 * @throws {FieldRangeError} where `after` names no item of it.
 */
export function pageOf<T extends { readonly id: string }>(
  items: readonly T[],
  { after, limit, order }: PageQuery,
): Page<T> {
  const ordered = order === "asc" ? items : items.toReversed();
  const start = after === undefined ? 0 : ordered.findIndex(({ id }) => id === after) + 1;
  if (after !== undefined && start === 0) {
    throw new FieldRangeError(
      "after",
      `Cannot list what comes after '${after.slice(0, 80)}': it is not listed`,
    );
  }
  return {
    items: ordered.slice(start, start + limit),
    hasMore: start + limit < ordered.length,
  };
}
