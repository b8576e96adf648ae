/**
 * What the engine tells of itself: gauges and cumulative counters in one snapshot, and single
 * observations to a listener. `server/telemetry` makes Prometheus' metrics of them.
 */
import type { LaneStats } from "./lane_pool.ts";
import type { FinishReason } from "./request/request.ts";

/** One finished sample. Times in seconds. */
export interface FinishedObservation {
  readonly requestId: string;
  /** Which of the request's samples, from 0. */
  readonly index: number;
  readonly tenant: string;
  /** The adapter's name, undefined for the base. */
  readonly adapter: string | undefined;
  readonly reason: FinishReason;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly generationTokens: number;
  /** How often it was put back for lack of memory. */
  readonly preemptions: number;
  /** What the request set as its bound; undefined where it set none. */
  readonly maxTokens: number | undefined;
  /** The request's samples of this prompt. */
  readonly samples: number;
  /** Arrival to end. */
  readonly endToEnd: number;
  /** Arrival to the first admission into a batch; undefined where it never came to that. */
  readonly queued: number | undefined;
  /** Arrival to the first token; undefined where none came. */
  readonly firstToken: number | undefined;
  /** Arrival to the last token; undefined where none came. */
  readonly lastToken: number | undefined;
}

/** One run of the model. */
export interface StepObservation {
  readonly kind: "prefill" | "decode" | "jump";
  readonly rows: number;
  /** Tokens the run computed, padding not counted, nor what a jump foresaw in vain. */
  readonly tokens: number;
  /** Steps of it that followed each other, each over its part of the tokens. */
  readonly steps: number;
  /** Tokens that were drawn behind prompts it ended. */
  readonly first: number;
  /** Seconds of the run and its sampling. */
  readonly seconds: number;
}

/** Called by the engine's loop itself: listeners must return at once and not throw. */
export interface EngineListener {
  firstToken?(seconds: number): void;
  interToken?(seconds: number): void;
  finished?(observation: FinishedObservation): void;
  step?(observation: StepObservation): void;
  /** No sequence is left after a run: `checkIntegrity` must pass. */
  idle?(): void;
}

/** Running and waiting samples of one adapter. */
export interface AdapterLoad {
  readonly running: number;
  readonly waiting: number;
}

/** Gauges of this moment and counters since the engine began. */
export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  readonly loading: number;
  readonly kvBytes: number;
  /** Of pages that left rows touched and that stay for the next ones. */
  readonly kvBytesSpare: number;
  readonly kvBytesCached: number;
  readonly kvBudget: number;
  /** kvBytes / kvBudget: rows in use, cached blocks not counted. */
  readonly kvUsage: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly generationTokens: number;
  readonly finished: Readonly<Record<FinishReason, number>>;
  readonly rejected: number;
  readonly preemptions: number;
  readonly prefixQueriedTokens: number;
  readonly prefixHitTokens: number;
  readonly prefillRuns: number;
  readonly decodeRuns: number;
  /** Runs over tokens that grammars foresaw, how many tokens these were, and how many were drawn. */
  readonly jumpRuns: number;
  readonly foreseenTokens: number;
  readonly jumpedTokens: number;
  /** By adapter name; the base is not among them. */
  readonly adapters: ReadonlyMap<string, AdapterLoad>;
  readonly lanes: LaneStats;
}
