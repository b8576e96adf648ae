/**
 * The engine's public face: requests in, deltas out.
 */
import type { Tokenizer } from "../checkpoint/checkpoint.ts";
import type { DeviceLease } from "../runtime/lease.ts";
import type { AdapterSource } from "./adapter.ts";
import type { EngineListener, EngineStats } from "./metrics.ts";
import type { BatchModel } from "./model.ts";
import type { Generation, GenerationRequest } from "./request.ts";

/** One loaded model: the base joined with one factor set, or the base alone. */
export interface LaneOptions {
  /** SHA-256 of the factor set (hex) whose cores run here; undefined = base rows only. */
  readonly factors: string | undefined;
  readonly model: BatchModel;
}

export interface EngineOptions {
  /** At least one; the first is the default lane of base rows. */
  readonly lanes: readonly LaneOptions[];
  /** Undefined = requests that name an adapter are refused. */
  readonly adapters?: AdapterSource;
  readonly tokenizer: Tokenizer;
  readonly eosTokenIds: readonly number[];
  /** Bytes of keys and values: rows in use and cached blocks together. */
  readonly kvMemory: number;
  /** Bytes of `kvMemory` that cached prefixes may take; 0 = no prefix cache. Default: half. */
  readonly prefixMemory?: number;
  /** Samples that may wait (n samples count n). Default 1024. */
  readonly maxQueue?: number;
  /** Longest prompt + output; default (and at most) what the models and `kvMemory` allow. */
  readonly maxContext?: number;
  readonly listener?: EngineListener;
  /** Whose turn the device is; default: a lease of the engine's own. */
  readonly lease?: DeviceLease;
}

/** Continuous batching over lanes. */
export class Engine {
  constructor(_options: EngineOptions) {
    throw new Error("internal: not built yet");
  }

  /** Tokens of the longest prompt + output. */
  get maxContext(): number {
    throw new Error("internal: not built yet");
  }

  /**
   * Takes a request in. What can be known at once is thrown here; what shows later (a core that
   * does not load, a grammar that does not compile, a failed step) rejects the iteration: await the
   * first delta before sending a response's head.
   * @throws {ContextLengthError} where the prompt, or prompt + maxTokens, does not fit.
   * @throws {OverloadedError} where the queue is full, or the engine is draining.
   * @throws {RangeError} naming a sampling field out of range; {TypeError} for an adapter no lane takes.
   */
  generate(_request: GenerationRequest): Generation {
    throw new Error("internal: not built yet");
  }

  /** Adds a lane; its factor set's cores run from now on. */
  addLane(_lane: LaneOptions): void {}

  /** Takes no more requests for a factor set; resolves when its last row has left. */
  removeLane(_factors: string | undefined): Promise<void> {
    return Promise.resolve();
  }

  stats(): EngineStats {
    throw new Error("internal: not built yet");
  }

  /** Refuses new requests and resolves when all present ones have ended. */
  drain(): Promise<void> {
    return Promise.resolve();
  }

  /** Aborts what runs, waits for the step in flight and releases everything but the models. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  /** @throws {Error} `internal: …` naming the broken invariant. */
  checkIntegrity(): void {}
}
