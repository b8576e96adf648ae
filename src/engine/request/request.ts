/** What a caller asks of the engine, a core among it, and what it gets back, in tokens and text. */
import type { ResidentAdapter } from "../../executor/model.ts";
import type { LoraRanks } from "../../models/lora.ts";
import type { Grammar } from "../../grammar/pool.ts";
import type { ReasoningBudget } from "./reasoning_bound.ts";

/** A core or a LoRA under a name: what a request's `model` stands for, one thing from HTTP to slot. */
export interface ServedCore {
  /** `tenant/name@version`, or an `ft:` name: one content for as long as it is served. */
  readonly name: string;
  /** SHA-256 of its file, hex. */
  readonly digest: string;
  /** SHA-256 of a core's factor set, hex: the lane it runs in; undefined for a LoRA. */
  readonly factors: string | undefined;
  /** A LoRA's ranks, by which its memory is known before it is there. */
  readonly ranks?: LoraRanks | undefined;
  /** Whose it is. */
  readonly tenant: string;
  /** The name without its version: what a request says that wants the current one. */
  readonly model: string;
  /** Where it came from, for people: a path, a job, "upload". */
  readonly source: string;
  /** Unix time in seconds. */
  readonly created: number;
}

/** A core or a LoRA pinned in memory until released. */
export interface CoreLease {
  readonly core: ResidentAdapter;
  release(): void;
}

/** Where the engine gets cores from: `CoreCache` in `adapters/catalog/`. */
export interface AdapterSource {
  /** Resolves at once for a resident core; a cold one is fetched without holding other rows up. */
  acquire(core: ServedCore, signal?: AbortSignal): CoreLease | Promise<CoreLease>;
  /** @throws {Error} `internal: …` where its own books, of leases above all, do not balance. */
  checkIntegrity?(): void;
}

/** Defaults are OpenAI's and vLLM's: temperature 1, top_p 1, everything else off. */
export interface SamplingParams {
  readonly temperature: number;
  readonly topP: number;
  /** 0 or -1 = off. */
  readonly topK: number;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** Over prompt and output, as transformers and vLLM have it. */
  readonly repetitionPenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
  /** Same seed, same text, whatever else is in the batch; undefined = random. */
  readonly seed: number | undefined;
  readonly maxTokens: number | undefined;
  readonly minTokens: number;
  readonly stop: readonly string[];
  readonly stopTokenIds: readonly number[];
  readonly includeStopInOutput: boolean;
  readonly ignoreEos: boolean;
  readonly skipSpecialTokens: boolean;
  /** undefined = none; 0 = the sampled token's only; up to 20 alternatives. */
  readonly logprobs: number | undefined;
  /** Tokens whose log probabilities are reported in place of the most likely ones'. */
  readonly logprobTokens?: readonly number[] | undefined;
  readonly grammar: Grammar | undefined;
  /** Only these may be drawn; undefined = any. */
  readonly allowedTokens?: readonly number[] | undefined;
  /** Sequences of tokens that the output must not have; undefined = none. */
  readonly badWords?: readonly (readonly number[])[] | undefined;
  /** How long the model may reason; undefined = as long as it likes. */
  readonly reasoningBudget?: ReasoningBudget | undefined;
}

/** What a tenant is entitled to beside others. */
export interface TenantStanding {
  /** Share of what is contended: above 0. */
  readonly weight: number;
  /** Lower runs sooner; whoever has a higher number waits, and gives way where room is short. */
  readonly priority: number;
  /** Samples that run at once; undefined = as many as there is room for. */
  readonly concurrency: number | undefined;
  /**
   * Samples that wait beyond those that can run at once; undefined = as many as the queue takes.
   */
  readonly queued: number | undefined;
}

export interface GenerationRequest {
  /** Unique; log lines and metrics carry it. */
  readonly id: string;
  /** Isolation and fairness key; part of every prefix-cache key. */
  readonly tenant: string;
  /** The tenant's; the newest request's counts. Undefined = equal shares, no limits. */
  readonly standing?: TenantStanding | undefined;
  readonly prompt: readonly number[];
  /** How many alternatives to report of each prompt token; undefined = nothing of the prompt. */
  readonly promptLogprobs?: number | undefined;
  /** undefined = the base. */
  readonly adapter: ServedCore | undefined;
  readonly sampling: SamplingParams;
  /** Independent samples of the same prompt (their seeds derive from `seed`). */
  readonly n: number;
  /** Among its tenant's own requests, lower runs sooner (vLLM's `priority`); default 0. */
  readonly priority: number;
  /**
   * Nobody waits for it: it takes rows that nobody else wants, behind every tenant's other requests,
   * and gives way to them. Default false.
   */
  readonly background?: boolean;
  readonly signal: AbortSignal | undefined;
}

export type FinishReason = "stop" | "length" | "abort" | "error";

export interface TokenLogprob {
  readonly token: number;
  readonly logprob: number;
  /** 1 = the most likely; of prompt tokens alone. */
  readonly rank?: number;
  readonly top: readonly { readonly token: number; readonly logprob: number }[];
}

/** One step's output for one of the request's n samples. */
export interface GenerationDelta {
  readonly index: number;
  /**
   * Text that can no longer be taken back (never half a character, never a stop string's start).
   */
  readonly text: string;
  readonly tokens: readonly number[];
  readonly logprobs: readonly TokenLogprob[] | undefined;
  readonly finishReason: FinishReason | undefined;
  /** The stop string or token id that ended it. */
  readonly stopReason: string | number | undefined;
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
}

/** When the first sample of a request came how far, in milliseconds of `performance.now()`. */
export interface GenerationTimes {
  readonly arrived: number;
  /** Into a batch, for the first time. */
  readonly admitted: number | undefined;
  readonly firstToken: number | undefined;
  readonly lastToken: number | undefined;
}

/** A running generation: iterate for deltas; `usage` is final when iteration ends. */
export interface Generation extends AsyncIterable<GenerationDelta> {
  readonly usage: Usage;
  /** Until now. */
  readonly times: GenerationTimes;
  /**
   * Of each prompt token but the first, which nothing precedes: known with the first delta, where they
   * were asked for.
   */
  readonly promptLogprobs: readonly TokenLogprob[] | undefined;
}
