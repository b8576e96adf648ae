/** The messages between PGlite's thread and whoever asks it. It knows no table. */

export type PgliteOrder =
  | { readonly type: "open"; readonly directory: string }
  /** One statement with parameters. */
  | { readonly type: "query"; readonly text: string; readonly values: readonly unknown[] }
  /** Any number of statements without parameters. */
  | { readonly type: "exec"; readonly text: string }
  | { readonly type: "listen" | "unlisten"; readonly channel: string }
  /** Whether log and dead rows are cleared away between statements. */
  | { readonly type: "upkeep"; readonly mode: "on" | "off" }
  | { readonly type: "close" };

export interface NumberedOrder {
  readonly id: number;
  readonly order: PgliteOrder;
}

export interface StatementResult {
  readonly rows: Record<string, unknown>[];
  readonly affectedRows: number | undefined;
}

/** What PostgreSQL says of an error, and its SQLSTATE. */
export interface SqlErrorFields {
  readonly message: string;
  readonly code?: string | undefined;
  readonly detail?: string | undefined;
  readonly constraint?: string | undefined;
}

export type PgliteReply =
  | { readonly type: "done"; readonly id: number; readonly results: readonly StatementResult[] }
  | { readonly type: "failed"; readonly id: number; readonly error: SqlErrorFields }
  /** A checkpoint or a vacuuming; what was asked for is not touched by it. */
  | { readonly type: "upkeep failed"; readonly error: SqlErrorFields }
  | { readonly type: "notified"; readonly channel: string; readonly payload: string };
