/**
 * A job while it runs: the rows of its present step or evaluation that still wait for a device, and
 * the sums over those that came back. It owns no transition (`job.ts`) and no choice of rows
 * (`fill.ts`).
 */
import { computedLength, type Example, type RowLoss } from "./gradients/model.ts";
import {
  evaluationDone,
  type JobEvent,
  type JobPlan,
  type JobState,
  startState,
  stepDone,
  type Work,
  workOf,
} from "./job.ts";
import { sharedLength } from "./gradients/shared_prefix.ts";

/** One row that waits; the same object comes back with its result. */
export interface WaitingRow {
  readonly example: Example;
  /** Tokens that must be computed. */
  readonly length: number;
}

export interface RowResult {
  readonly row: WaitingRow;
  readonly loss: RowLoss;
}

/**
 * Rows go out in any order and any company; when the last of a step or an evaluation is back, the
 * state moves on. Sums are in double precision and in the order of arrival.
 */
export class JobRun {
  readonly plan: JobPlan;
  #state: JobState;
  #work: Work = { type: "none" };
  /** Longest first, rows of equal length in the job's own order. */
  #waiting: readonly WaitingRow[] = [];
  #shared = 0;
  #sums = noRows();
  #gradient = new Float64Array();

  constructor(plan: JobPlan, state: JobState = startState(plan)) {
    this.plan = plan;
    this.#state = state;
    this.#begin();
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

  /** Longest first. */
  get waiting(): readonly WaitingRow[] {
    return this.#waiting;
  }

  /**
   * Takes results in, with the gradient of their summed loss where they are a step's.
   * @returns what happened; empty until the last row is back.
   * @throws {DivergedError} where the job cannot go on.
   */
  accept(results: readonly RowResult[], gradient?: Float32Array): readonly JobEvent[] {
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

  #begin(): void {
    this.#work = workOf(this.plan, this.#state);
    const rows = this.#work.type === "none" ? [] : this.#work.rows;
    this.#shared = sharedLength(rows);
    this.#waiting = rows.map((example) => ({ example, length: computedLength(example) }))
      .sort((a, b) => b.length - a.length);
    this.#sums = noRows();
    this.#gradient = new Float64Array(this.#work.type === "step" ? this.plan.start.length : 0);
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
