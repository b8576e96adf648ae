/**
 * The engine: requests in, deltas out, and the loop that keeps lanes running in between. It owns
 * the sequences' way from arrival to end; what runs next is the scheduler's, how it runs the
 * runner's. It knows no HTTP, no chat and no file.
 *
 * A request's life: (1) `generate` checks it and makes a sequence for each of its n samples; (2) a
 * sequence is `loading` while its core and grammar come; (3) it waits in the queue; (4) the
 * scheduler admits it into its lane: prefill, in chunks where it is long; (5) each step brings one
 * token, whose text goes out once it cannot be taken back; (6) short of memory, it may be preempted
 * and wait again; (7) a stop, its length, its caller or an error ends it; (8) its row, memory, core
 * and grammar are given back.
 */
import type { Tokenizer } from "../checkpoint/checkpoint.ts";
import { DeviceLock } from "../runtime/device_lock.ts";
import { Ledger } from "./accounts.ts";
import type { AdapterSource } from "./request/adapter.ts";
import { AdmissionControl } from "./request/admission.ts";
import { Delivery, release } from "./request/delivery.ts";
import type { GrammarSource } from "../grammar/pool.ts";
import { checkIntegrity } from "./integrity.ts";
import { Lane } from "./lane.ts";
import { LanePool, type LaneSource } from "./lane_pool.ts";
import { tokensWithin } from "../executor/kv_cache.ts";
import { KvMemory } from "./memory/memory.ts";
import { Counters, type EngineListener, type EngineStats } from "./metrics.ts";
import type { BatchModel } from "../executor/model.ts";
import { nextTurn } from "../util/time.ts";
import { BLOCK_TOKENS } from "./memory/prefix_cache.ts";
import { FieldError } from "../util/errors.ts";
import type { Generation, GenerationRequest } from "./request/request.ts";
import { SpareRoom } from "./memory/spare.ts";
import { LaneRunner } from "./runner.ts";
import { validateRequest } from "./request/sampling.ts";
import type { Sequence } from "./sequence.ts";
import { WaitingQueue } from "./waiting.ts";

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
  /** Whose turn the device is; default: a lock of the engine's own. */
  readonly deviceLock?: DeviceLock;
}

const DEFAULT_QUEUE = 1024;
/** Bytes of the lanes that come and go, where nobody says. */
export const DEFAULT_LANE_MEMORY = 2 ** 30;

/** Continuous batching over lanes. Starts no work before the first request. */
export class Engine {
  readonly #options: EngineOptions;
  readonly #memory: KvMemory;
  readonly #ledger = new Ledger();
  readonly #queue = new WaitingQueue(this.#ledger);
  readonly #counters = new Counters();
  readonly #delivery: Delivery;
  readonly #admission: AdmissionControl;
  readonly #runner: LaneRunner;
  readonly #loop: Promise<void>;
  readonly #pool: LanePool;
  #nextLane = 0;
  #wake: (() => void) | undefined;
  #closing = false;
  #draining = false;
  #idleSteps = 0;

  /** @throws {RangeError} where there is no lane, or `kvMemory` does not hold a single row. */
  constructor(options: EngineOptions) {
    if (options.lanes.length === 0) throw new RangeError("Cannot run an engine without a lane");
    this.#options = options;
    this.#pool = new LanePool({
      lanes: options.lanes.map(laneOf),
      source: options.laneSource,
      maxBytes: options.laneMemory ?? DEFAULT_LANE_MEMORY,
      inUse: (lane) => this.#delivery.uses(lane),
      until: (condition) => this.#delivery.until(condition),
      onClosing: (lane) => this.#rerouteFrom(lane),
    });
    const { kvMemory, prefixMemory = kvMemory / 2 } = options;
    this.#memory = new KvMemory({
      total: kvMemory,
      cacheLimit: prefixMemory,
      spare: new SpareRoom(() => this.#lanes),
    });
    if (this.maxContext < 2) {
      throw new RangeError(
        `Cannot run with ${kvMemory} bytes of KV memory: not even one row of a few tokens fits`,
      );
    }
    const { listener = {}, tokenizer, eosTokenIds, deviceLock = new DeviceLock() } = options;
    this.#delivery = new Delivery({
      queue: this.#queue,
      ledger: this.#ledger,
      counters: this.#counters,
      listener,
      tokenizer,
      eosTokenIds,
      prepare: (sequence) => this.#prepare(sequence),
    });
    this.#admission = new AdmissionControl({
      maxQueue: options.maxQueue ?? DEFAULT_QUEUE,
      lanes: () => this.#lanes,
      queue: this.#queue,
      delivery: this.#delivery,
      counters: this.#counters,
    });
    this.#runner = new LaneRunner({
      lanes: () => this.#lanes,
      queue: this.#queue,
      ledger: this.#ledger,
      memory: this.#memory,
      deviceLock,
      counters: this.#counters,
      listener,
      delegate: this.#delivery,
    });
    this.#loop = this.#run();
  }

  /** Tokens of the longest prompt + output. */
  get maxContext(): number {
    const limits = this.#lanes.map(({ model }) =>
      Math.min(model.maxContext, tokensWithin(this.#memory.total, model.kvBytesPerToken))
    );
    return Math.min(this.#options.maxContext ?? Infinity, ...limits);
  }

  /** Blocks of `BLOCK_TOKENS` tokens that the KV memory holds, as the default lane lays them out. */
  get kvBlocks(): number {
    const { kvBytesPerToken } = this.#pool.first.model;
    return Math.floor(this.#memory.total / (BLOCK_TOKENS * kvBytesPerToken));
  }

  /**
   * Takes a request in. What can be known at once is thrown here; what shows later (a core that
   * does not load, a grammar that does not compile, a failed step) rejects the iteration: await the
   * first delta before sending a response's head.
   * @throws {ContextLengthError} where the prompt, or prompt + maxTokens, does not fit.
   * @throws {OverloadedError} where the queue or the tenant's part of it is full, or the engine is
   * draining.
   * @throws {RangeError} naming a field that is out of range.
   * @throws {TypeError} for an adapter of a factor set that is not known, or a grammar where none are offered.
   */
  generate(request: GenerationRequest): Generation {
    const [generation] = this.generateAll([request]);
    if (generation === undefined) throw new Error("internal: a request without a generation");
    return generation;
  }

  /**
   * Takes several requests of one tenant in, all or none: none displaces others for the sake of one
   * that is refused. In their order. @throws as `generate` does.
   */
  generateAll(requests: readonly GenerationRequest[]): readonly Generation[] {
    const maxContext = this.maxContext;
    const lanes = requests.map((request) => {
      validateRequest(request, { vocabSize: this.#pool.first.model.vocabSize, maxContext });
      return this.#laneFor(request);
    });
    const [first] = requests;
    const [lane] = lanes;
    if (first === undefined || lane === undefined) return [];
    if (this.#draining) throw this.#admission.refuse("server", "The engine is shutting down");
    const samples = requests.reduce((sum, { n }) => sum + n, 0);
    this.#admission.admit(this.#delivery.accountOf(first), samples, lane);
    return requests.map((request, i) => {
      const shares = request.prompt.length > 2 * BLOCK_TOKENS && this.#memory.cacheLimit > 0;
      const options = { lane: lanes[i] ?? lane, maxContext, samplesFollow: shares };
      return this.#delivery.open(request, options);
    });
  }

  /** Lanes with a model. */
  get #lanes(): readonly Lane[] {
    return this.#pool.open;
  }

  /** Gauges of this moment and counters since the engine began. */
  stats(): EngineStats {
    const { total, reserved, spare, cache } = this.#memory;
    const running = this.#lanes.reduce((count, lane) => count + lane.rows.length, 0);
    return {
      ...this.#counters,
      finished: { ...this.#counters.finished },
      running,
      waiting: this.#queue.size,
      loading: this.#delivery.size - running - this.#queue.size,
      kvBytes: reserved,
      kvBytesSpare: spare,
      kvBytesCached: cache.bytes,
      kvBudget: total,
      kvUsage: reserved / total,
      adapters: this.#delivery.adapterLoads(),
      lanes: this.#pool.stats(),
    };
  }

  /** Refuses new requests and resolves when all present ones have ended. */
  async drain(): Promise<void> {
    this.#draining = true;
    await this.#delivery.until(() => this.#delivery.size === 0);
  }

  /** Aborts what runs, waits for the step in flight and releases everything but the models. */
  async close(): Promise<void> {
    this.#draining = true;
    this.#closing = true;
    for (const sequence of this.#delivery.live()) this.#delivery.cancel(sequence);
    this.#signal();
    await this.#loop;
    await this.#pool.settle();
    this.#memory.cache.shrinkTo(0);
    this.#options.grammars?.close();
  }

  /**
   * Slots, pages, views, lanes, queue and leases, between runs.
   * @throws {Error} `internal: …` naming the broken invariant.
   */
  checkIntegrity(): void {
    this.#pool.checkIntegrity();
    this.#options.adapters?.checkIntegrity?.();
    checkIntegrity({
      lanes: this.#lanes,
      waiting: this.#queue,
      live: this.#delivery.live(),
      memory: this.#memory,
    });
  }

  // ---- arrival ----

  #laneFor({ adapter, sampling }: GenerationRequest): Lane {
    if (sampling.grammar !== undefined && this.#options.grammars === undefined) {
      throw new FieldError(
        "response_format",
        "Cannot use response_format: this engine has no grammars",
      );
    }
    if (adapter === undefined) return this.#baseLane();
    if (this.#options.adapters !== undefined) return this.#pool.find(adapter);
    throw new FieldError(
      "model",
      `Cannot run adapter ${adapter.name}: this engine has no adapters`,
    );
  }

  /** The fullest lane that still has room, so that base and adapted rows share batches. */
  #baseLane(): Lane {
    let best: Lane | undefined;
    for (const lane of this.#lanes) {
      if (lane.closing) continue;
      best ??= lane;
      if (lane.freeSlots > 0 && lane.rows.length > best.rows.length) best = lane;
    }
    if (best === undefined) throw new Error("internal: no lane is open");
    return best;
  }

  /** Opens the lane and fetches core and grammar, without a turn of the event loop where all is at hand. */
  #prepare(sequence: Sequence): void {
    const { adapter, sampling } = sequence.request;
    if (sequence.state !== "loading") return;
    if (adapter === undefined && sampling.grammar === undefined) return this.#enqueue(sequence);
    this.#load(sequence)
      .then(() => this.#enqueue(sequence))
      .catch((error) => this.#delivery.failed(sequence, error));
  }

  async #load(sequence: Sequence): Promise<void> {
    const { adapter, signal, sampling, tenant } = sequence.request;
    if (adapter !== undefined) {
      // the lane first: a core that waited for its lane would keep those of open lanes out
      const opening = this.#pool.ready(sequence.lane);
      if (opening !== undefined) await opening;
      if (sequence.state === "finished") return;
      const acquired = this.#options.adapters?.acquire(adapter, signal);
      sequence.lease = acquired instanceof Promise ? await acquired : acquired;
      if (sequence.lease?.core.digest !== adapter.digest) {
        throw new Error(
          `internal: core ${sequence.lease?.core.digest} came for ${adapter.name}, ${adapter.digest}`,
        );
      }
    }
    if (sampling.grammar !== undefined && sequence.state === "loading") {
      sequence.matcher = await this.#options.grammars?.matcher(sampling.grammar, tenant);
    }
  }

  #enqueue(sequence: Sequence): void {
    if (sequence.state === "finished") return release(sequence);
    sequence.enter("waiting");
    if (sequence.request.adapter === undefined) this.#reroute(sequence);
    this.#queue.add(sequence);
    this.#signal();
  }

  /** Sequences of the base that have no row there yet go elsewhere. */
  #rerouteFrom(lane: Lane): void {
    for (const sequence of this.#delivery.live()) {
      if (sequence.lane !== lane || sequence.slot !== undefined) continue;
      if (sequence.request.adapter === undefined) this.#reroute(sequence);
    }
  }

  #reroute(sequence: Sequence): void {
    const lane = this.#baseLane();
    if (lane !== sequence.lane) sequence.reroute(lane);
  }

  // ---- the loop ----

  async #run(): Promise<void> {
    while (!this.#closing || this.#delivery.size > 0) {
      const lane = this.#laneWithWork();
      if (lane === undefined) {
        await this.#sleep();
        continue;
      }
      try {
        this.#checkStuck(await this.#runner.step(lane));
      } catch (error) {
        this.#collapse(error);
      }
      if (this.#delivery.size === 0) this.#options.listener?.idle?.();
      await nextTurn();
    }
  }

  /** Lanes take turns. */
  #laneWithWork(): Lane | undefined {
    const count = this.#lanes.length;
    for (let i = 0; i < count; i++) {
      const at = (this.#nextLane + i) % count;
      const lane = this.#lanes[at];
      if (lane === undefined || !this.#hasWork(lane)) continue;
      this.#nextLane = at + 1;
      return lane;
    }
    return undefined;
  }

  #hasWork(lane: Lane): boolean {
    if (lane.rows.length > 0) return true;
    for (const sequence of this.#queue) if (sequence.lane === lane) return true;
    return false;
  }

  #sleep(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }

  #signal(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /**
   * Between rows' runs some lane can always go on: with no row anywhere the first in line fits, as
   * `maxContext` sees to. Idle steps of every lane in turn would be an endless loop.
   */
  #checkStuck(progressed: boolean): void {
    this.#idleSteps = progressed ? 0 : this.#idleSteps + 1;
    if (this.#idleSteps <= 2 * this.#lanes.length) return;
    const [stuck] = this.#queue;
    throw new Error(`internal: ${stuck?.label} waits and nothing runs`);
  }

  /** A broken invariant: nothing known of rows can be trusted, so all present requests fail. */
  #collapse(error: unknown): void {
    this.#idleSteps = 0;
    try {
      for (const lane of this.#lanes) this.#runner.remove(lane, [...lane.rows]);
    } catch {
      this.#closing = true;
      this.#draining = true;
    }
    for (const sequence of this.#delivery.live()) this.#delivery.failed(sequence, error);
  }
}

function laneOf({ factors, model, bytes = 0 }: LaneOptions): Lane {
  return new Lane(factors, { slots: model.maxBatch, bytes }).open(model);
}
