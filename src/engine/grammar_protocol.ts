/** What the grammar worker and its pool say to each other. */

/** To the worker. */
export type GrammarOrder =
  | {
    readonly type: "init";
    /** Byte-level (GPT-2) spelling of each token; empty for one that no text may contain. */
    readonly vocabulary: readonly string[];
    readonly vocabSize: number;
    readonly stopTokens: readonly number[];
    /** Compiled grammars kept. */
    readonly cacheSize: number;
  }
  /** Compiles where needed, begins a matcher and takes it past `tokens`. */
  | {
    readonly type: "create";
    readonly id: number;
    readonly schema: string;
    readonly tokens: readonly number[];
  }
  | { readonly type: "accept"; readonly id: number; readonly token: number }
  | { readonly type: "dispose"; readonly id: number };

/** From the worker. */
export type GrammarReply =
  /** Allowed tokens after `count` accepted ones. */
  | {
    readonly type: "mask";
    readonly id: number;
    readonly count: number;
    readonly mask: Int32Array<ArrayBuffer>;
  }
  /** A matcher could not be made or moved. The worker is not to be trusted any longer. */
  | { readonly type: "failed"; readonly id: number; readonly reason: string };
