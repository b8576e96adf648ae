/**
 * The engine: requests in, deltas out, and the loop that runs one lane's step after the other. All
 * it has is in `state.ts`.
 *
 * A request's life: (1) **arrive**: `generate` checks it and makes a sequence for each of its n
 * samples; (2) a sequence is `loading` until its core and grammar are there; (3) **queue**: it
 * waits in its tenant's line (`policy/queue.ts`); (4) **admit**: the scheduler gives it a row in
 * its lane; its prompt is computed, in chunks where it is long; (5) **step**: each decode run
 * brings one token, and (6) **deliver** sends its text out once that cannot be taken back; (7)
 * short of memory, it may be preempted and wait again; (8) a stop, its length, its caller or an
 * error ends it: its row, memory, core and grammar are given back.
 */
import { nextTurn } from "../util/time.ts";
import { arrive } from "./arrive.ts";
import { cancel, fail } from "./admit.ts";
import { checkIntegrity } from "./integrity.ts";
import { BLOCK_TOKENS } from "./kv_memory.ts";
import type { AdapterLoad, EngineStats } from "./metrics.ts";
import { BACKGROUND_EVERY } from "./policy/scheduler.ts";
import type { Generation, GenerationRequest } from "./request/request.ts";
import type { Lane, Sequence } from "./sequence.ts";
import { type EngineOptions, EngineState } from "./state.ts";
import { step } from "./step.ts";

/** Continuous batching over lanes. Starts no work before the first request. */
export class Engine {
  readonly #state: EngineState;
  readonly #loop: Promise<void>;
  #nextLane = 0;
  /** Turns that lanes with background rows alone have not had. */
  #passedOver = 0;
  #idleSteps = 0;
  #closing = false;
  /** Why nothing can be computed any more. */
  #gone: Error | undefined;

  /** @throws {RangeError} where there is no lane, or `kvMemory` does not hold a single row. */
  constructor(options: EngineOptions) {
    this.#state = new EngineState(options);
    this.#loop = this.#run();
  }

  /** Tokens of the longest prompt + output. */
  get maxContext(): number {
    return this.#state.maxContext;
  }

  /**
   * Blocks of `BLOCK_TOKENS` tokens that the KV memory holds, as the default lane lays them out.
   */
  get kvBlocks(): number {
    const { lanes, memory } = this.#state;
    return Math.floor(memory.total / (BLOCK_TOKENS * lanes.first.model.kvBytesPerToken));
  }

  /**
   * Takes a request in. What can be known at once is thrown here; what shows later (a core that
   * does not load, a grammar that does not compile, a failed step) rejects the iteration: await the
   * first delta before sending a response's head.
   * @throws {ContextLengthError} where the prompt, or prompt + maxTokens, does not fit.
   * @throws {OverloadedError} where the queue or the tenant's part of it is full, or the engine is
   * draining.
   * @throws {RangeError} naming a field that is out of range.
   * @throws {TypeError} for an adapter of a factor set that is not known, or a grammar where none
   * are offered.
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
    return arrive(this.#state, requests);
  }

  /** Gauges of this moment and counters since the engine began. */
  stats(): EngineStats {
    const { counters, lanes, live, memory, queue, running } = this.#state;
    return {
      ...counters,
      finished: { ...counters.finished },
      running,
      waiting: queue.size,
      loading: live.size - running - queue.size,
      kvBytes: memory.reserved,
      kvBytesSpare: memory.spare,
      kvBytesCached: memory.cache.bytes,
      kvBudget: memory.total,
      kvUsage: memory.reserved / memory.total,
      adapters: adapterLoads(live),
      lanes: lanes.stats(),
    };
  }

  /** Refuses new requests and resolves when all present ones have ended. */
  async drain(): Promise<void> {
    this.#state.draining = true;
    await this.#state.until(() => this.#state.live.size === 0);
  }

  /**
   * Refuses new requests and fails all present ones, after the run in flight: what computes is gone.
   */
  fail(error: Error): void {
    this.#state.draining = true;
    this.#gone = error;
    this.#state.wake();
  }

  /** Aborts what runs, waits for the step in flight and releases everything but the models. */
  async close(): Promise<void> {
    const { lanes, live, memory, options } = this.#state;
    this.#state.draining = true;
    this.#closing = true;
    for (const sequence of [...live]) cancel(this.#state, sequence);
    this.#state.wake();
    await this.#loop;
    await lanes.settle();
    memory.cache.shrinkTo(0);
    options.grammars?.close();
  }

  /**
   * Checks slots, pages, views, lanes, queue and leases; between runs.
   * @throws {Error} `internal: …` naming the broken invariant.
   */
  checkIntegrity(): void {
    checkIntegrity(this.#state);
  }

  async #run(): Promise<void> {
    const state = this.#state;
    while (!this.#closing || state.live.size > 0) {
      if (this.#gone !== undefined) this.#collapse(this.#gone);
      const lane = this.#laneWithWork();
      if (lane === undefined) {
        await state.sleep();
        continue;
      }
      try {
        this.#checkStuck(await step(state, lane));
      } catch (error) {
        this.#collapse(error);
      }
      if (state.live.size === 0) state.listener.idle?.();
      await nextTurn();
    }
  }

  /** Lanes take turns. */
  #laneWithWork(): Lane | undefined {
    const { open } = this.#state.lanes;
    for (let i = 0; i < open.length; i++) {
      const at = (this.#nextLane + i) % open.length;
      const lane = open[at];
      if (lane === undefined || !this.#hasWork(lane) || this.#isPassedOver(lane)) continue;
      this.#nextLane = at + 1;
      return lane;
    }
    return undefined;
  }

  /** A lane with background rows alone has its turn after every eighth of the others'. */
  #isPassedOver(lane: Lane): boolean {
    const { rows, queue } = this.#state;
    const isForeground = (one: Sequence) => !one.account.background;
    if (lane.rows.some(isForeground) || !rows.some(isForeground)) return false;
    for (const one of queue) if (one.lane === lane && isForeground(one)) return false;
    this.#passedOver = (this.#passedOver + 1) % BACKGROUND_EVERY;
    return this.#passedOver !== 0;
  }

  #hasWork(lane: Lane): boolean {
    if (lane.rows.length > 0) return true;
    for (const sequence of this.#state.queue) if (sequence.lane === lane) return true;
    return false;
  }

  /**
   * Some lane can always go on: where no lane has a row, the first in line fits (`maxContext` sees
   * to that). So idle steps of all lanes in turn mean a broken invariant, and would go on for ever.
   */
  #checkStuck(progressed: boolean): void {
    this.#idleSteps = progressed ? 0 : this.#idleSteps + 1;
    if (this.#idleSteps <= 2 * this.#state.lanes.open.length) return;
    const [stuck] = this.#state.queue;
    throw new Error(`internal: ${stuck?.label} waits and nothing runs`);
  }

  /** After a broken invariant no row's state can be trusted: all present requests fail. */
  #collapse(error: unknown): void {
    const state = this.#state;
    this.#idleSteps = 0;
    try {
      for (const lane of state.lanes.open) state.vacate(lane, [...lane.rows]);
    } catch {
      this.#closing = true;
      state.draining = true;
    }
    for (const sequence of [...state.live]) fail(state, sequence, error);
  }
}

/** Running and waiting (or loading) samples by adapter name. */
function adapterLoads(live: ReadonlySet<Sequence>): ReadonlyMap<string, AdapterLoad> {
  const loads = new Map<string, AdapterLoad>();
  for (const { request, state } of live) {
    if (request.adapter === undefined) continue;
    const { running, waiting } = loads.get(request.adapter.name) ?? { running: 0, waiting: 0 };
    const runs = state === "prefill" || state === "running" ? 1 : 0;
    loads.set(request.adapter.name, { running: running + runs, waiting: waiting + 1 - runs });
  }
  return loads;
}
