/**
 * Many jobs over one model at once: one micro-batch after the other, of whichever jobs wait, each row
 * with its own job's parameters. Where a micro-batch fails, each job's rows are tried alone.
 */
import { type MicroBatchPlan, planMicroBatch } from "./micro_batches.ts";
import type { JobPlan, JobState } from "./job.ts";
import type { GradientModel, Gradients, MicroBatch } from "./gradients/model.ts";
import { aborted, type JobHooks, RunningJob } from "./running_job.ts";

export interface TrainerOptions {
  /** Milliseconds of some clock: how long ago a job's state was written. */
  readonly now?: () => number;
}

/**
 * Runs jobs until each ends; they come and go while others run. A job alone gets the same
 * micro-batches each time, so its result is the same to the last bit, resumed or not; with others
 * it is the same up to rounding.
 */
export class Trainer {
  readonly #model: GradientModel;
  readonly #now: () => number;
  readonly #jobs = new Set<RunningJob>();
  #driving = false;

  /** Borrows the model: releasing it, after the last job, is the caller's. */
  constructor(model: GradientModel, { now = () => performance.now() }: TrainerOptions = {}) {
    this.#model = model;
    this.#now = now;
  }

  /** Jobs that run. */
  get running(): number {
    return this.#jobs.size;
  }

  /**
   * Trains to the end of the plan, or to where patience ends.
   * @throws {DOMException} AbortError; {DivergedError}; {RangeError} for a row that is too long or
   *   carries no loss; what the model or a hook throws.
   */
  async run(plan: JobPlan, hooks: JobHooks = {}): Promise<JobState> {
    checkRows(plan, this.#model.maxContext);
    if (hooks.signal?.aborted) throw aborted();
    // Not 0: one who joins late must not hold up all others until it has caught up.
    const least = [...this.#jobs].reduce((least, { served }) => Math.min(least, served), Infinity);
    const served = Number.isFinite(least) ? least : 0;
    const job = new RunningJob(plan, hooks, { served, now: this.#now });
    this.#jobs.add(job);
    hooks.signal?.addEventListener("abort", this.#wake);
    this.#wake();
    try {
      return await job.ended;
    } finally {
      this.#jobs.delete(job);
      hooks.signal?.removeEventListener("abort", this.#wake);
    }
  }

  readonly #wake = (): void => void this.#drive();

  /** Turns until no row waits; whoever brings new ones wakes it. */
  async #drive(): Promise<void> {
    if (this.#driving) return;
    this.#driving = true;
    try {
      for (let plan = this.#next(); plan !== undefined; plan = this.#next()) {
        await this.#take(plan);
      }
    } catch (error) {
      for (const job of this.#jobs) job.fail(error);
    } finally {
      this.#driving = false;
    }
  }

  #next(): MicroBatchPlan<RunningJob> | undefined {
    for (const job of this.#jobs) if (job.signal?.aborted) job.abort(this.#wake);
    const running = [...this.#jobs].filter((job) => !job.signal?.aborted);
    return planMicroBatch(running, this.#model.maxTokens);
  }

  /**
   * Runs one micro-batch and hands the results out. Where a shared one fails, each job's rows are
   * tried alone, so that only those fail that cannot be run.
   */
  async #take(plan: MicroBatchPlan<RunningJob>): Promise<void> {
    const { picks } = plan;
    using end = whenAllAbort(picks.map(({ candidate }) => candidate.signal));
    let results: Results;
    try {
      results = await this.#compute(plan, end.signal);
    } catch (error) {
      if (end.signal?.aborted) return;
      if (picks.length === 1) return picks[0].candidate.fail(error);
      for (const pick of picks) await this.#take({ ...plan, picks: [pick] });
      return;
    }
    let from = 0;
    for (const [i, { candidate, rows }] of picks.entries()) {
      candidate.served += rows.reduce((sum, { example }) => sum + example.tokens.length, 0);
      const back = rows.map((row, j) => ({ row, loss: results.rows[from + j] }));
      candidate.accept(back, results.gradients?.[i], this.#wake);
      from += rows.length;
    }
  }

  async #compute(
    { kind, picks }: MicroBatchPlan<RunningJob>,
    signal?: AbortSignal,
  ): Promise<Results> {
    const batch: MicroBatch = {
      rows: picks.flatMap(({ rows }, trainable) =>
        rows.map(({ example }) => ({ example, trainable }))
      ),
      trainables: picks.map(({ candidate }) => candidate.trainable),
    };
    return kind === "step"
      ? await this.#model.gradients(batch, signal)
      : { rows: await this.#model.losses(batch, signal) };
  }
}

type Results = Pick<Gradients, "rows"> & Partial<Gradients>;

/** A signal that fires when all have; none where one of them never can. */
function whenAllAbort(
  signals: readonly (AbortSignal | undefined)[],
): Disposable & { readonly signal?: AbortSignal } {
  const given = signals.filter((signal) => signal !== undefined);
  if (given.length < signals.length) return { [Symbol.dispose]: () => {} };
  const all = new AbortController();
  const check = () => {
    if (given.every((signal) => signal.aborted)) all.abort(aborted());
  };
  for (const signal of given) signal.addEventListener("abort", check);
  return {
    signal: all.signal,
    [Symbol.dispose]: () => {
      for (const signal of given) signal.removeEventListener("abort", check);
    },
  };
}

function checkRows({ train, evaluated }: JobPlan, maxContext: number): void {
  if (train.length === 0 || evaluated.length === 0) {
    throw new RangeError(
      `Cannot train on ${train.length} rows and evaluate on ${evaluated.length}: ` +
        `at least one of each is wanted`,
    );
  }
  for (const { tokens, weights, line } of [...train, ...evaluated]) {
    if (tokens.length > maxContext) {
      throw new RangeError(
        `Cannot train on line ${line}: it has ${tokens.length} tokens, at most ${maxContext} fit`,
      );
    }
    if (!weights.some((weight, i) => i > 0 && weight > 0)) {
      throw new RangeError(`Cannot train on line ${line}: none of its tokens carries loss`);
    }
  }
}
