/**
 * Carries a lane's plans out: admits, runs the model, samples, preempts, keeps prefixes. All changes
 * to rows and their memory happen here, between runs. It decides nothing (`scheduler.ts` does) and
 * knows no request: what a token means to its caller is its delegate's.
 */
import type { DeviceLock } from "../runtime/device_lock.ts";
import type { Ledger } from "./accounts.ts";
import type { TokenMatcher } from "../grammar/matcher.ts";
import type { Lane } from "./lane.ts";
import type { KvMemory } from "./memory/memory.ts";
import type { Counters, EngineListener, StepObservation } from "./metrics.ts";
import type { PrefillRow, Sampled, SampleRow } from "../executor/model.ts";
import { nextTurn } from "../util/time.ts";
import { Prefixes } from "./memory/prefixes.ts";
import { bytesOf, planPreemption, planPrefill, type PrefillPlan } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";
import type { WaitingQueue } from "./waiting.ts";

/** The engine's priority in the device lock: before any trainer's (1). */
const ENGINE_PRIORITY = 0;
/** Prefill runs of one step: only rows with a cached prefix, short ones, go more than one by one. */
const PREFILL_RUNS = 4;

/** Blocks saved after one run: copying must not hold the event loop or the next step up. */
const KEPT_BLOCKS = 8;
/** How long a step waits for late masks while it has rows to draw, and while it has none. */
const GRACE_MILLISECONDS = 3;
const ALONE_MILLISECONDS = 50;

/** What becomes of sequences, for the engine to tell their callers. */
export interface RunnerDelegate {
  /** Takes a token; true where the sequence ends with it. */
  deliver(sequence: Sequence, sampled: Sampled): boolean;
  /** The prompt is computed: sequences that wait for its prefix may go on. */
  prefilled(sequence: Sequence): void;
  /** It has left its lane after `deliver` ended it. */
  ended(sequence: Sequence): void;
  /** It has left its lane because it was cancelled. */
  aborted(sequence: Sequence): void;
  /** It has left its lane because of an error. */
  failed(sequence: Sequence, error: unknown): void;
}

export interface RunnerOptions {
  /** All lanes, as they are now. */
  readonly lanes: () => readonly Lane[];
  readonly queue: WaitingQueue;
  readonly ledger: Ledger;
  readonly memory: KvMemory;
  readonly deviceLock: DeviceLock;
  readonly counters: Counters;
  readonly listener: EngineListener;
  readonly delegate: RunnerDelegate;
}

export class LaneRunner {
  readonly #lanes: () => readonly Lane[];
  readonly #queue: WaitingQueue;
  readonly #ledger: Ledger;
  readonly #memory: KvMemory;
  readonly #prefixes: Prefixes;
  readonly #deviceLock: DeviceLock;
  readonly #counters: Counters;
  readonly #listener: EngineListener;
  readonly #delegate: RunnerDelegate;

  constructor(options: RunnerOptions) {
    this.#lanes = options.lanes;
    this.#queue = options.queue;
    this.#ledger = options.ledger;
    this.#memory = options.memory;
    this.#prefixes = new Prefixes(options.memory);
    this.#deviceLock = options.deviceLock;
    this.#counters = options.counters;
    this.#listener = options.listener;
    this.#delegate = options.delegate;
  }

  /** At most one prefill (or a few short ones) and one decode. False where nothing could be done. */
  async step(lane: Lane): Promise<boolean> {
    const reaped = this.#reap(lane);
    const prefilled = await this.#prefills(lane);
    this.#reap(lane);
    const decoded = await this.#decode(lane);
    return reaped || prefilled || decoded;
  }

  /** Takes sequences out of their lane and memory without telling anyone. */
  remove(lane: Lane, sequences: readonly Sequence[]): void {
    lane.remove(sequences);
    const reserved = sequences.reduce((sum, sequence) => sum + sequence.reserved, 0);
    for (const sequence of sequences) sequence.reserved = 0;
    this.#memory.reserve(reserved, 0);
  }

  // ---- prefill ----

  async #prefills(lane: Lane): Promise<boolean> {
    let tokens = 0;
    let again = true;
    for (let run = 0; run < PREFILL_RUNS && tokens < lane.model.prefillTokens; run++) {
      const plan = this.#planPrefill(lane);
      if (plan.kind === "none") return run > 0;
      if (!again && !isUrgent(plan)) return true;
      again = plan.kind === "single";
      lane.continued = plan.kind === "chunk";
      const sequences = this.#admitted(lane, plan);
      if (sequences.length > 0) tokens += await this.#prefill(lane, sequences, plan.tokens);
      // first tokens go out, and arrivals come in, before the next run
      await nextTurn();
    }
    return true;
  }

  #planPrefill(lane: Lane): PrefillPlan {
    return planPrefill({
      lane,
      waiting: this.#queue,
      admitted: this.#allRows(),
      freeBytes: this.#memory.free,
      heavy: this.#ledger.heavy(performance.now()),
      hit: (sequence) => this.#prefixes.hit(sequence),
    });
  }

  /** The plan's sequences, in their slots; those whose admission failed are gone. */
  #admitted(lane: Lane, plan: PrefillPlan): readonly Sequence[] {
    if (plan.kind === "none") return [];
    if (plan.kind === "chunk") return [plan.sequence];
    for (const victim of plan.victims) this.#preempt(victim);
    if (plan.kind === "batch") {
      const { sequences, padded } = plan;
      return sequences.filter((each) => this.#admit(lane, each, bytesOf(each, padded)));
    }
    const { sequence } = plan;
    const load = (slot: number) => this.#prefixes.load(sequence, slot);
    return this.#admit(lane, sequence, bytesOf(sequence), load) ? [sequence] : [];
  }

  #admit(
    lane: Lane,
    sequence: Sequence,
    bytes: number,
    load?: (slot: number) => void,
  ): boolean {
    this.#queue.remove(sequence);
    sequence.enter("prefill");
    sequence.admittedAt ??= performance.now();
    if (load !== undefined) this.#prefixes.touch(sequence);
    this.#resize(sequence, bytes);
    try {
      const slot = lane.admit(sequence);
      load?.(slot);
      this.#countPrefix(sequence);
      return true;
    } catch (error) {
      this.#fail(lane, [sequence], error);
      return false;
    }
  }

  /** Runs each sequence's next chunk; returns the number of tokens computed. */
  async #prefill(lane: Lane, sequences: readonly Sequence[], most: number): Promise<number> {
    const rows = sequences.map((sequence) => chunkOf(sequence, most));
    const tokens = rows.reduce((sum, row) => sum + row.tokens.length, 0);
    let started = performance.now();
    try {
      using _turn = await this.#deviceLock.take(ENGINE_PRIORITY);
      started = performance.now();
      await lane.model.prefill(rows);
      const complete = sequences.map((sequence, i) => advance(sequence, rows[i]) ? i : undefined);
      const indices = complete.filter((index) => index !== undefined);
      for (const index of indices) this.#complete(sequences[index]);
      await this.#sample(lane, sequences, indices);
    } catch (error) {
      this.#fail(lane, sequences, error);
    }
    this.#counters.prefillRuns++;
    this.#finishRun(lane, { kind: "prefill", rows: sequences.length, tokens }, started);
    return tokens;
  }

  #complete(sequence: Sequence | undefined): void {
    if (sequence === undefined) return;
    sequence.enter("running");
    if (sequence.followers.length > 0) this.#prefixes.keep([sequence], Infinity);
    this.#delegate.prefilled(sequence);
  }

  // ---- decode ----

  async #decode(lane: Lane): Promise<boolean> {
    this.#makeRoom(lane);
    const { tokens, lengths } = lane.decodeInput();
    if (tokens.length === 0) return false;
    const rows = lane.rows.slice(0, tokens.length);
    const running = [...rows.keys()].filter((slot) => rows[slot]?.state === "running");
    let started = performance.now();
    try {
      using _turn = await this.#deviceLock.take(ENGINE_PRIORITY);
      started = performance.now();
      await lane.model.decode(tokens, lengths);
      for (const slot of running) advanceOne(rows[slot]);
      await this.#sample(lane, rows, running);
    } catch (error) {
      this.#fail(lane, running.flatMap((slot) => rows[slot] ?? []), error);
    }
    this.#counters.decodeRuns++;
    const rowCount = running.length;
    this.#finishRun(lane, { kind: "decode", rows: rowCount, tokens: rowCount }, started);
    return true;
  }

  /** Every running row gets room for one more token, by preemption where there is none. */
  #makeRoom(lane: Lane): void {
    const victims = planPreemption(lane, this.#allRows(), this.#memory.free);
    for (const victim of victims) this.#preempt(victim);
    for (const row of lane.rows) {
      if (row.state === "running") this.#resize(row, bytesOf(row));
    }
  }

  #preempt(sequence: Sequence): void {
    this.#prefixes.keep([sequence], KEPT_BLOCKS);
    this.remove(sequence.lane, [sequence]);
    if (sequence.cancelled) return this.#delegate.aborted(sequence);
    sequence.enter("waiting");
    sequence.computed = 0;
    sequence.savedBlocks = 0;
    this.#queue.add(sequence);
    this.#counters.preemptions++;
  }

  // ---- sampling and leaving ----

  /**
   * Draws for rows `indices` of the last run, which belong to `sequences[index]`. Masks are made
   * while the model runs; a row whose mask is late nevertheless is left one token behind, so that
   * the next decode computes that token again, and nobody waits for it.
   */
  async #sample(
    lane: Lane,
    sequences: readonly Sequence[],
    indices: readonly number[],
  ): Promise<void> {
    const drawn: Sequence[] = [];
    const rows: SampleRow[] = [];
    await masksMade(indices.flatMap((index) => sequences[index]?.matcher ?? []), indices.length);
    for (const index of indices) {
      const sequence = sequences[index];
      if (sequence === undefined) continue;
      if (sequence.matcher?.ready === false) sequence.computed--;
      else {
        drawn.push(sequence);
        rows.push(sequence.sampling.row(index, sequence.matcher?.mask));
      }
    }
    if (rows.length === 0) return;
    const sampled = await lane.model.sample(rows);
    this.#leave(lane, this.#deliver(drawn, sampled));
  }

  /** Hands the tokens out; returns the sequences that end with theirs. */
  #deliver(sequences: readonly Sequence[], sampled: readonly Sampled[]): Sequence[] {
    const ended: Sequence[] = [];
    for (const [i, sequence] of sequences.entries()) {
      const drawn = sampled[i];
      if (drawn === undefined) {
        throw new Error(`internal: no token was drawn for ${sequence.label}`);
      }
      if (sequence.cancelled) continue;
      if (this.#delegate.deliver(sequence, drawn)) ended.push(sequence);
    }
    return ended;
  }

  #leave(lane: Lane, sequences: readonly Sequence[]): void {
    if (sequences.length === 0) return;
    this.#prefixes.keep(sequences, KEPT_BLOCKS);
    this.remove(lane, sequences);
    for (const sequence of sequences) this.#delegate.ended(sequence);
  }

  /** Rows that were cancelled, or whose grammar broke, leave. */
  #reap(lane: Lane): boolean {
    const cancelled = lane.rows.filter((row) => row.cancelled);
    this.#prefixes.keep(cancelled, KEPT_BLOCKS);
    this.remove(lane, cancelled);
    for (const sequence of cancelled) this.#delegate.aborted(sequence);
    const broken = lane.rows.filter((row) => row.matcher?.error !== undefined);
    for (const sequence of broken) this.#fail(lane, [sequence], sequence.matcher?.error);
    return cancelled.length + broken.length > 0;
  }

  #fail(lane: Lane, sequences: readonly Sequence[], error: unknown): void {
    const present = sequences.filter((sequence) => lane.rows.includes(sequence));
    this.remove(lane, present);
    for (const sequence of sequences) {
      if (sequence.reserved > 0) this.#resize(sequence, 0);
      if (sequence.state !== "finished") this.#delegate.failed(sequence, error);
    }
  }

  // ---- memory and counting ----

  #resize(sequence: Sequence, bytes: number): void {
    this.#memory.reserve(sequence.reserved, bytes);
    sequence.reserved = bytes;
  }

  #allRows(): readonly Sequence[] {
    return this.#lanes().flatMap((lane) => lane.rows);
  }

  #countPrefix(sequence: Sequence): void {
    this.#counters.prefixQueriedTokens += sequence.length;
    this.#counters.prefixHitTokens += sequence.computed;
    if (sequence.cachedTokens !== undefined) return;
    const { prompt } = sequence.request;
    sequence.cachedTokens = Math.min(sequence.computed, prompt.length);
    sequence.account.chargePrompt(prompt.length - sequence.cachedTokens);
  }

  /** After each run: saves a few blocks, and says what was done. */
  #finishRun(lane: Lane, run: Omit<StepObservation, "seconds">, started: number): void {
    const seconds = (performance.now() - started) / 1000;
    this.#prefixes.keep(lane.rows, KEPT_BLOCKS);
    this.#listener.step?.({ ...run, seconds });
  }
}

function isUrgent(plan: PrefillPlan): boolean {
  return (plan.kind === "batch" || plan.kind === "single") && plan.urgent;
}

/** The next chunk of at most so many tokens; chunks of one prompt are about equally long. */
function chunkOf(sequence: Sequence, most: number): PrefillRow {
  const past = sequence.computed;
  const chunks = Math.ceil(sequence.uncomputed / most);
  const end = past + Math.ceil(sequence.uncomputed / chunks);
  if (sequence.slot === undefined) throw new Error(`internal: ${sequence.label} has no slot`);
  const tokens = sequence.tokens(past, end);
  return { slot: sequence.slot, tokens, past, last: end === sequence.length };
}

/** Counts a chunk as computed; true where it ended the prompt. */
function advance(sequence: Sequence, row: PrefillRow | undefined): boolean {
  if (row === undefined) return false;
  sequence.computed += row.tokens.length;
  return row.last;
}

function advanceOne(sequence: Sequence | undefined): void {
  if (sequence !== undefined) sequence.computed++;
}

/**
 * Waits for late masks: a moment where other rows can be drawn, longer where there is nothing else
 * to do.
 */
async function masksMade(matchers: readonly TokenMatcher[], rows: number): Promise<void> {
  const late = matchers.filter((matcher) => !matcher.ready);
  if (late.length === 0) return;
  const all = Promise.all(late.map((matcher) => matcher.settled()));
  await within(all, late.length === rows ? ALONE_MILLISECONDS : GRACE_MILLISECONDS);
}

/** Resolves with the promise or after so many milliseconds, whichever comes first. */
async function within(promise: Promise<unknown>, milliseconds: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => timer = setTimeout(resolve, milliseconds));
  await Promise.race([promise, late]);
  clearTimeout(timer);
}
