/** What an encoder's engine counts, told as the engine of a decoder tells it: most of that is 0 here. */
import type { EngineStats } from "../metrics.ts";

export class EmbedCounters {
  promptTokens = 0;
  passes = 0;
  rejected = 0;
  readonly finished = { stop: 0, length: 0, abort: 0, error: 0 };

  pass(tokens: number): void {
    this.passes++;
    this.promptTokens += tokens;
  }
}

/** Of this moment. */
export interface EmbedGauges {
  /** Texts of the pass in flight. */
  readonly running: number;
  readonly waiting: number;
  /** Requests whose core is on its way. */
  readonly loading: number;
  readonly lanes: number;
}

const NONE = {
  kvBytes: 0,
  kvBytesSpare: 0,
  kvBytesCached: 0,
  kvBudget: 0,
  kvUsage: 0,
  cachedTokens: 0,
  generationTokens: 0,
  preemptions: 0,
  prefixQueriedTokens: 0,
  prefixHitTokens: 0,
  decodeRuns: 0,
  jumpRuns: 0,
  foreseenTokens: 0,
  jumpedTokens: 0,
} as const;

export function statsOf(counters: EmbedCounters, gauges: EmbedGauges): EngineStats {
  const { running, waiting, loading, lanes } = gauges;
  const { promptTokens, rejected, finished, passes } = counters;
  return {
    ...NONE,
    ...{ running, waiting, loading, promptTokens, rejected },
    finished: { ...finished },
    prefillRuns: passes,
    adapters: new Map(),
    lanes: { loaded: lanes, bytes: 0, loads: lanes, evictions: 0 },
  };
}
