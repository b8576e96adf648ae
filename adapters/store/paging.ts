/** Pages of lists, as all stores cut them. */

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
