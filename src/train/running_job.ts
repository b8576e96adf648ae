/**
 * A job while it runs among others: the rows of its present step or evaluation that still wait for
 * the device, the sums over those that are back, its caller's hooks, and the promise of its end.
 * The trap: no row waits while a state is being written, so that nothing is trained beyond what is
 * durable.
 */
import { type Candidate, sharedLength, type WaitingRow } from "./micro_batches.ts";
import {
  computedLength,
  type Example,
  type RowLoss,
  type TrainableState,
} from "./gradients/model.ts";
import {
  evaluationDone,
  type JobPlan,
  type JobState,
  startState,
  stepDone,
  type TrainingEvent,
  type Work,
  workOf,
} from "./job.ts";

/** What a caller hears of a job, and says to it. */
export interface JobHooks {
  /** Goes on from here instead of from the start. */
  readonly from?: JobState;
  /**
   * Ends the job, between micro-batches or their segments; its last whole step is written first.
   */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: TrainingEvent) => void;
  /**
   * Awaited before the job goes on; other jobs do not wait. Never called before the base is known.
   */
  readonly onState?: (state: JobState) => Promise<void>;
  /** Most steps between two states written; after an evaluation one is written anyway. */
  readonly stateEvery?: number;
}

export interface RowResult {
  readonly row: WaitingRow;
  readonly loss: RowLoss;
}

/**
 * Milliseconds after which a step is written though no evaluation came: the most a kill may lose.
 */
const OLDEST_UNWRITTEN_MS = 30_000;

/**
 * Rows go out in any order and any company; sums are in double precision, in the order of arrival.
 */
export class RunningJob implements Candidate {
  readonly plan: JobPlan;
  readonly signal: AbortSignal | undefined;
  /** The state at the end of the job, or why there is none. */
  readonly ended: Promise<JobState>;
  /** Tokens of its rows that went out. */
  served: number;
  readonly #hooks: JobHooks;
  readonly #now: () => number;
  readonly #end = Promise.withResolvers<JobState>();
  #state: JobState;
  #work: Work = { type: "none" };
  /** Longest first, rows of equal length in the job's own order. */
  #waiting: readonly WaitingRow[] = [];
  #shared = 0;
  #sums = noRows();
  #gradient = new Float64Array();
  #over = false;
  #writing = false;
  #written: JobState;
  #writtenAt: number;

  /** @param others what the jobs beside it were served, and the trainer's clock in milliseconds */
  constructor(plan: JobPlan, hooks: JobHooks, others: { served: number; now: () => number }) {
    this.plan = plan;
    this.signal = hooks.signal;
    this.ended = this.#end.promise;
    this.served = others.served;
    this.#hooks = hooks;
    this.#now = others.now;
    this.#state = hooks.from ?? startState(plan);
    this.#written = this.#state;
    this.#writtenAt = others.now();
    this.#begin();
    if (this.kind === "none") this.#finish();
  }

  get state(): JobState {
    return this.#state;
  }

  /** What the waiting rows are for; "none" when the job is done. */
  get kind(): Work["type"] {
    return this.#work.type;
  }

  /** Tokens that the rows of this step or evaluation all begin with. */
  get shared(): number {
    return this.#shared;
  }

  /** No row while a state is being written. */
  get waiting(): readonly WaitingRow[] {
    return this.#writing || this.#over ? [] : this.#waiting;
  }

  get trainable(): TrainableState {
    return { rank: this.plan.rank, parameters: this.#state.parameters };
  }

  /**
   * Takes results in and tells what happened; a state that is due is being written when this
   * returns, and `wake` is called when it is.
   */
  accept(
    results: readonly RowResult[],
    gradient: Float32Array | undefined,
    wake: () => void,
  ): void {
    if (this.#over) return;
    try {
      const events = this.take(results, gradient);
      for (const event of events) this.#hooks.onEvent?.(event);
      if (this.#due(events)) void this.#write(wake);
      else if (this.kind === "none") this.#finish();
    } catch (error) {
      this.fail(error);
    }
  }

  /**
   * Takes results in, with the gradient of their summed loss where they are a step's. When the last
   * of a step or an evaluation is back, the state moves on.
   * @returns what happened; empty until the last row is back.
   * @throws {DivergedError} where the job cannot go on.
   */
  take(results: readonly RowResult[], gradient?: Float32Array): readonly TrainingEvent[] {
    const back = new Set(results.map(({ row }) => row));
    this.#waiting = this.#waiting.filter((row) => !back.has(row));
    for (const { row, loss } of results) addRow(this.#sums, loss, row.example);
    gradient?.forEach((value, i) => this.#gradient[i] += value);
    if (this.#waiting.length > 0) return [];
    const outcome = this.#work.type === "step"
      ? stepDone(this.plan, this.#state, { ...this.#sums, gradient: this.#gradient })
      : evaluationDone(this.plan, this.#state, this.#sums);
    this.#state = outcome.state;
    this.#begin();
    return outcome.events;
  }

  /** Writes the last whole step if it is not written, then ends the job with an AbortError. */
  abort(wake: () => void): void {
    if (this.#over || this.#writing) return;
    if (this.#state.base === undefined || this.#state === this.#written) {
      return this.fail(aborted());
    }
    void this.#write(wake);
  }

  fail(error: unknown): void {
    this.#over = true;
    this.#end.reject(error);
  }

  #begin(): void {
    this.#work = workOf(this.plan, this.#state);
    const rows = this.#work.type === "none" ? [] : this.#work.rows;
    this.#shared = sharedLength(rows);
    this.#waiting = rows.map((example) => ({ example, length: computedLength(example) }))
      .sort((a, b) => b.length - a.length);
    this.#sums = noRows();
    this.#gradient = new Float64Array(this.#work.type === "step" ? this.plan.start.length : 0);
  }

  #finish(): void {
    this.#over = true;
    this.#end.resolve(this.#state);
  }

  #due(events: readonly TrainingEvent[]): boolean {
    if (this.#hooks.onState === undefined || events.length === 0) return false;
    if (this.kind === "none" || events.some(({ type }) => type === "evaluation")) return true;
    const steps = this.#state.step - this.#written.step;
    // where an evaluation comes next, one write after it serves both
    if (this.kind === "evaluation" || steps === 0) return false;
    return steps >= (this.#hooks.stateEvery ?? Infinity) ||
      this.#now() - this.#writtenAt >= OLDEST_UNWRITTEN_MS;
  }

  async #write(wake: () => void): Promise<void> {
    const state = this.#state;
    this.#writing = true;
    try {
      await this.#hooks.onState?.(state);
      this.#written = state;
      this.#writtenAt = this.#now();
      if (this.kind === "none") this.#finish();
    } catch (error) {
      this.fail(error);
    } finally {
      this.#writing = false;
      wake();
    }
  }
}

type Sums = { -readonly [K in keyof RowLoss]: number } & { read: number };

function noRows(): Sums {
  return { loss: 0, weight: 0, hits: 0, tokens: 0, read: 0 };
}

function addRow(sums: Sums, { loss, weight, hits, tokens }: RowLoss, example: Example): void {
  sums.loss += loss;
  sums.weight += weight;
  sums.hits += hits;
  sums.tokens += tokens;
  sums.read += example.tokens.length;
}

export function aborted(): DOMException {
  return new DOMException("The training was aborted", "AbortError");
}
