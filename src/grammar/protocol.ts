/** What a grammar thread and its pool say to each other. */

/** To the thread. */
export type GrammarOrder =
  | {
    readonly type: "init";
    /** Byte-level (GPT-2) spelling of each token; empty for one that no text may contain. */
    readonly vocabulary: readonly string[];
    readonly vocabSize: number;
    readonly stopTokens: readonly number[];
  }
  /** Compiles a schema (JSON text) and keeps it under a number. */
  | { readonly type: "compile"; readonly grammar: number; readonly schema: string }
  | { readonly type: "forget"; readonly grammar: number }
  /** Begins a matcher of a grammar that is kept, and takes it past `tokens`. */
  | {
    readonly type: "create";
    readonly id: number;
    readonly grammar: number;
    readonly tokens: readonly number[];
  }
  | { readonly type: "accept"; readonly id: number; readonly token: number }
  | { readonly type: "dispose"; readonly id: number };

/** From the thread. */
export type GrammarReply =
  /** After `init`. */
  | { readonly type: "ready" }
  /** `weight` is the grammar's, as `WrittenGrammar` has it. */
  | { readonly type: "compiled"; readonly grammar: number; readonly weight: number }
  /** The schema is at fault; the thread goes on. */
  | { readonly type: "refused"; readonly grammar: number; readonly reason: string }
  /** Allowed tokens after `count` accepted ones. */
  | {
    readonly type: "mask";
    readonly id: number;
    readonly count: number;
    readonly mask: Int32Array<ArrayBuffer>;
  }
  /** The library broke, at a matcher or at a grammar: the thread is not to be trusted any longer. */
  | {
    readonly type: "failed";
    readonly during: GrammarOrder["type"];
    readonly id: number | undefined;
    readonly reason: string;
  };
