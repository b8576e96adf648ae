/** Pages of lists, of rows and of what is in memory. */
import { FieldRangeError } from "../../src/util/errors.ts";

/** A slice of a list, newest first unless asked otherwise. */
export interface PageQuery {
  /** Begins behind the item of this id. */
  readonly after: string | undefined;
  readonly limit: number;
  readonly order: "asc" | "desc";
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly hasMore: boolean;
}

/** Where a page begins, in a list by `seq`. */
export function beyond(order: PageQuery["order"]): ">" | "<" {
  return order === "asc" ? ">" : "<";
}

/** Asks for one row more than the page has, to know whether there are more. */
export function limited<Q extends { limit(rows: number): Q }>(rows: Q, { limit }: PageQuery): Q {
  return Number.isFinite(limit) ? rows.limit(limit + 1) : rows;
}

export function toPage<R, T>(
  rows: readonly R[],
  { limit }: PageQuery,
  toItem: (row: R) => T,
): Page<T> {
  return { items: rows.slice(0, limit).map(toItem), hasMore: rows.length > limit };
}

/** @throws {FieldRangeError} that the item a page begins behind is not listed */
export function notListed(after: string): never {
  throw new FieldRangeError(
    "after",
    `Cannot list what comes after '${after.slice(0, 80)}': it is not listed`,
  );
}

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
