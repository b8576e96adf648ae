/** What goes between a server and the thread that reads one of its training files. */
import type { Dataset } from "./dataset.ts";

export type DatasetOrder =
  | { readonly type: "begin"; readonly path: string; readonly maxContext: number }
  | { readonly type: "piece"; readonly bytes: Uint8Array }
  | { readonly type: "end" };

export type DatasetReply =
  /** The next piece is wanted. */
  | { readonly type: "more" }
  | { readonly type: "done"; readonly dataset: Dataset }
  | { readonly type: "failed"; readonly error: unknown };
