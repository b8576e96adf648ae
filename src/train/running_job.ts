/**
 * A job among others: its run, its caller's hooks, and the promise of its end. It owns when a state
 * is written and that nothing is trained meanwhile; whose turn it is (`trainer.ts`) it does not know.
 */
import type { Candidate } from "./fill.ts";
import type { JobEvent, JobPlan, JobState, Work } from "./job.ts";
import { JobRun, type RowResult, type WaitingRow } from "./job_run.ts";
import type { TrainableState } from "./gradients/model.ts";

/** What a caller hears of a job, and says to it. */
export interface JobHooks {
  /** Goes on from here instead of from the start. */
  readonly from?: JobState;
  /** Ends the job, between micro-batches or their segments; its last whole step is written first. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: JobEvent) => void;
  /** Awaited before the job goes on; other jobs do not wait. Never called before the base is known. */
  readonly onState?: (state: JobState) => Promise<void>;
  /** Most steps between two states written; after an evaluation one is written anyway. */
  readonly stateEvery?: number;
}

/** Work that a killed process may lose, in milliseconds, where evaluations are rarer. */
const OLDEST_UNWRITTEN_MS = 30_000;

export class RunningJob implements Candidate {
  readonly signal: AbortSignal | undefined;
  /** The state at the end of the job, or why there is none. */
  readonly ended: Promise<JobState>;
  /** Tokens of its rows that went out. */
  served: number;
  readonly #run: JobRun;
  readonly #hooks: JobHooks;
  readonly #now: () => number;
  readonly #end = Promise.withResolvers<JobState>();
  #over = false;
  #writing = false;
  #written: JobState;
  #writtenAt: number;

  constructor(plan: JobPlan, hooks: JobHooks, place: { served: number; now: () => number }) {
    this.#run = new JobRun(plan, hooks.from);
    this.#hooks = hooks;
    this.#now = place.now;
    this.served = place.served;
    this.signal = hooks.signal;
    this.ended = this.#end.promise;
    this.#written = this.#run.state;
    this.#writtenAt = place.now();
    if (this.kind === "none") this.#finish();
  }

  get kind(): Work["type"] {
    return this.#run.kind;
  }

  get shared(): number {
    return this.#run.shared;
  }

  /** No row while a state is being written. */
  get waiting(): readonly WaitingRow[] {
    return this.#writing || this.#over ? [] : this.#run.waiting;
  }

  get over(): boolean {
    return this.#over;
  }

  get trainable(): TrainableState {
    return { rank: this.#run.plan.rank, parameters: this.#run.state.parameters };
  }

  /**
   * Takes results in; a state that is due is being written when this returns, and `wake` is called
   * when it is.
   */
  accept(
    results: readonly RowResult[],
    gradient: Float32Array | undefined,
    wake: () => void,
  ): void {
    if (this.#over) return;
    try {
      const events = this.#run.accept(results, gradient);
      for (const event of events) this.#hooks.onEvent?.(event);
      if (this.#due(events)) void this.#write(wake);
      else if (this.kind === "none") this.#finish();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Writes the last whole step if it is not written, then ends the job with an AbortError. */
  abort(wake: () => void): void {
    if (this.#over || this.#writing) return;
    const { base } = this.#run.state;
    if (base === undefined || this.#run.state === this.#written) return this.fail(aborted());
    void this.#write(wake);
  }

  fail(error: unknown): void {
    this.#over = true;
    this.#end.reject(error);
  }

  #finish(): void {
    this.#over = true;
    this.#end.resolve(this.#run.state);
  }

  #due(events: readonly JobEvent[]): boolean {
    if (this.#hooks.onState === undefined || events.length === 0) return false;
    if (this.kind === "none" || events.some(({ type }) => type === "evaluation")) return true;
    const steps = this.#run.state.step - this.#written.step;
    // Where an evaluation comes next, one write after it does for both.
    if (this.kind === "evaluation" || steps === 0) return false;
    return steps >= (this.#hooks.stateEvery ?? Infinity) ||
      this.#now() - this.#writtenAt >= OLDEST_UNWRITTEN_MS;
  }

  async #write(wake: () => void): Promise<void> {
    const { state } = this.#run;
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

export function aborted(): DOMException {
  return new DOMException("The training was aborted", "AbortError");
}
