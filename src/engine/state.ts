/**
 * Everything an engine has, in one place: its lanes, queue and memory, the sequences that have not
 * finished, and the counters. `engine.ts` makes one; the steps of a sequence's life (`arrive.ts`,
 * `admit.ts`, `step.ts`) are functions over it. Trap: rows and their memory change only between runs
 * of the model.
 */
import type { Tokenizer } from "../checkpoint/checkpoint.ts";
import { tokensWithin } from "../executor/kv_cache.ts";
import type { BatchModel } from "../executor/model.ts";
import type { GrammarSource } from "../grammar/pool.ts";
import { DeviceLock } from "../runtime/device_lock.ts";
import { LanePool, type LaneSource } from "./lane_pool.ts";
import { KvMemory } from "./kv_memory.ts";
import type { EngineListener } from "./metrics.ts";
import { Ledger } from "./policy/accounts.ts";
import { WaitingQueue } from "./policy/queue.ts";
import type { AdapterSource, FinishReason } from "./request/request.ts";
import { TokenTexts } from "./request/output.ts";
import { Lane, type Sequence } from "./sequence.ts";

/** One loaded model: the base joined with one factor set, or the base alone. */
export interface LaneOptions {
  /** SHA-256 of the factor set (hex) whose cores run here; undefined = base rows only. */
  readonly factors: string | undefined;
  readonly model: BatchModel;
  /** What the model takes, keys and values aside; default 0. */
  readonly bytes?: number;
}

export interface EngineOptions {
  /** At least one; the first is the default lane of base rows. They stay. */
  readonly lanes: readonly LaneOptions[];
  /** Where lanes of other factor sets come from; undefined = there are none. */
  readonly laneSource?: LaneSource;
  /** Bytes of the lanes that come and go, keys and values aside. Default 1 GiB. */
  readonly laneMemory?: number;
  /** Undefined = requests that name an adapter are refused. */
  readonly adapters?: AdapterSource;
  readonly tokenizer: Tokenizer;
  readonly eosTokenIds: readonly number[];
  /** Bytes of keys and values: rows in use, pages kept for the next ones, cached prefixes. */
  readonly kvMemory: number;
  /** Bytes of `kvMemory` that cached prefixes may take; 0 = no prefix cache. Default: half. */
  readonly prefixMemory?: number;
  /** Samples that may wait (n samples count n). Default 1024. */
  readonly maxQueue?: number;
  /** Longest prompt + output; default (and at most) what the models and `kvMemory` allow. */
  readonly maxContext?: number;
  /** Undefined = requests with a grammar are refused. */
  readonly grammars?: GrammarSource;
  readonly listener?: EngineListener;
  /** Shared with others that run the device (a trainer); default: the engine's own. */
  readonly deviceLock?: DeviceLock;
  /**
   * Seconds that decode steps which follow each other in a device's own memory take at most together:
   * in between tokens go out, arrivals come in and rows leave. Default 0.05.
   */
  readonly aheadSeconds?: number;
}

/** The engine's priority in the device lock: before any trainer's (1). */
export const ENGINE_PRIORITY = 0;
const DEFAULT_QUEUE = 1024;
/** Default of `laneMemory`, bytes. */
export const DEFAULT_LANE_MEMORY = 2 ** 30;

/** The counters of `EngineStats`, as the engine keeps them. */
class Counters {
  promptTokens = 0;
  cachedTokens = 0;
  generationTokens = 0;
  rejected = 0;
  preemptions = 0;
  prefixQueriedTokens = 0;
  prefixHitTokens = 0;
  prefillRuns = 0;
  decodeRuns = 0;
  jumpRuns = 0;
  foreseenTokens = 0;
  jumpedTokens = 0;
  readonly finished: Record<FinishReason, number> = { stop: 0, length: 0, abort: 0, error: 0 };
}

/** How fast the last 64 samples finished: tells a refused caller how long to wait. */
class FinishRate {
  readonly #times: number[] = [];

  /** @param now milliseconds. */
  record(now: number): void {
    this.#times.push(now);
    if (this.#times.length > 64) this.#times.shift();
  }

  /** Seconds until `waiting` samples will have finished at the recent rate, within 1 … 60. */
  secondsFor(waiting: number, now: number): number {
    const first = this.#times[0];
    if (first === undefined || now <= first) return 1;
    const perSecond = this.#times.length / ((now - first) / 1000);
    return Math.min(60, Math.max(1, Math.ceil(waiting / perSecond)));
  }
}

export class EngineState {
  readonly options: EngineOptions;
  readonly lanes: LanePool;
  readonly memory: KvMemory;
  readonly ledger = new Ledger();
  readonly queue = new WaitingQueue(this.ledger);
  readonly maxQueue: number;
  /** Sequences that have not finished. */
  readonly live = new Set<Sequence>();
  readonly counters = new Counters();
  readonly finishRate = new FinishRate();
  readonly texts: TokenTexts;
  readonly eosTokens: ReadonlySet<number>;
  readonly listener: EngineListener;
  readonly deviceLock: DeviceLock;
  /** Decode runs since the last prefill of a background row. */
  decodedSince = 0;
  /** New requests are refused. */
  draining = false;
  #waitForEnd: (() => void)[] = [];
  #wake: (() => void) | undefined;

  /** @throws {RangeError} where there is no lane, or `kvMemory` does not hold a single row. */
  constructor(options: EngineOptions) {
    const { lanes, kvMemory, prefixMemory = kvMemory / 2 } = options;
    if (lanes.length === 0) throw new RangeError("Cannot run an engine without a lane");
    this.options = options;
    this.lanes = new LanePool({
      lanes: lanes.map(laneOf),
      source: options.laneSource,
      maxBytes: options.laneMemory ?? DEFAULT_LANE_MEMORY,
      live: this.live,
      until: (condition) => this.until(condition),
    });
    this.memory = new KvMemory({
      total: kvMemory,
      cacheLimit: prefixMemory,
      lanes: () => this.lanes.open,
    });
    this.maxQueue = options.maxQueue ?? DEFAULT_QUEUE;
    this.texts = new TokenTexts(options.tokenizer);
    this.eosTokens = new Set(options.eosTokenIds);
    this.listener = options.listener ?? {};
    this.deviceLock = options.deviceLock ?? new DeviceLock();
    if (this.maxContext >= 2) return;
    throw new RangeError(
      `Cannot run with ${kvMemory} bytes of KV memory: not even one row of a few tokens fits; raise --kv-memory`,
    );
  }

  /** Tokens of the longest prompt + output. */
  get maxContext(): number {
    const limits = this.lanes.open.map(({ model }) =>
      Math.min(model.maxContext, tokensWithin(this.memory.total, model.kvBytesPerToken))
    );
    return Math.min(this.options.maxContext ?? Infinity, ...limits);
  }

  /** The rows of all lanes. */
  get rows(): readonly Sequence[] {
    return this.lanes.open.flatMap((lane) => lane.rows);
  }

  /** Number of rows of all lanes. */
  get running(): number {
    return this.lanes.open.reduce((count, lane) => count + lane.rows.length, 0);
  }

  /** Changes the bytes that are reserved for a sequence's row. */
  reserve(sequence: Sequence, bytes: number): void {
    this.memory.reserve(sequence.reserved, bytes);
    sequence.reserved = bytes;
  }

  /** Takes rows out of their lane and gives their memory back; their sequences' states stay. */
  vacate(lane: Lane, sequences: readonly Sequence[]): void {
    lane.remove(sequences);
    const reserved = sequences.reduce((sum, sequence) => sum + sequence.reserved, 0);
    for (const sequence of sequences) sequence.reserved = 0;
    this.memory.reserve(reserved, 0);
  }

  /** Resolves when the condition holds; it is looked at whenever a sequence ends. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waitForEnd.push(resolve));
  }

  /** Some sequence has ended: looks at what `until` waits for. */
  ended(): void {
    const waiting = this.#waitForEnd;
    this.#waitForEnd = [];
    for (const resolve of waiting) resolve();
  }

  /** Resolves at the next `wake`. */
  sleep(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }

  /** There is work for the loop, or nothing more to come. */
  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}

function laneOf({ factors, model, bytes = 0 }: LaneOptions): Lane {
  return new Lane(factors, { slots: model.maxBatch, bytes }).open(model);
}
