/**
 * One training job as a pure state machine: what work comes next, and what its outcome makes of the
 * state.
 */
import { type AdamState, adamw, clippedMean, type RateSpan } from "./adamw.ts";
import type { Example, RowLoss } from "./gradients/model.ts";
import {
  epochOrder,
  evaluationAfter,
  type Pace,
  placeOf,
  scheduleAt,
  type ScheduleShape,
} from "./plan.ts";

/** Everything about a job that does not change while it runs. */
export interface JobPlan {
  readonly train: readonly Example[];
  /** Rows that evaluations, early stopping and the best step go by. */
  readonly evaluated: readonly Example[];
  readonly rank: number;
  /** Parameters at the start: an adapter without effect, so that their evaluation is the base's. */
  readonly start: Float32Array;
  readonly pace: Pace;
  /** Peak rates; together as long as `start`. */
  readonly rates: readonly RateSpan[];
  readonly schedule: ScheduleShape;
  /** Share of all steps. */
  readonly warmup: number;
  readonly weightDecay: number;
  /** Largest L2 norm of a step's gradient. */
  readonly clip: number;
  /** Evaluations without a better one before the job stops; 0 = never. */
  readonly patience: number;
  readonly seed: number;
}

/** Mean over rows. */
export interface Evaluation {
  /** Nats for a loss-carrying token. */
  readonly loss: number;
  /** Share of loss-carrying tokens that were the most likely one. */
  readonly accuracy: number;
}

/** What the optimizer moves. */
export interface Moved {
  readonly parameters: Float32Array;
  readonly optimizer: AdamState;
}

export interface EvaluatedStep {
  readonly step: number;
  readonly evaluation: Evaluation;
}

export interface JobState extends Moved {
  /** Steps done, rolled back ones included. */
  readonly step: number;
  /** Tokens trained on. */
  readonly tokens: number;
  /** Undefined until the first evaluation. */
  readonly base: Evaluation | undefined;
  /** The step after which the last evaluation took place. */
  readonly evaluatedAt: number;
  readonly evaluations: readonly EvaluatedStep[];
  readonly best: (EvaluatedStep & Moved) | undefined;
  /** Mean loss of each step; NaN where it was not finite. */
  readonly losses: readonly number[];
  /** Each halved the rate. */
  readonly rollbacks: number;
  /** Why the job ended before its last step. */
  readonly stopped: string | undefined;
}

export type TrainingEvent =
  | { readonly type: "base"; readonly evaluation: Evaluation }
  | {
    readonly type: "step";
    /** From 1. */
    readonly step: number;
    /** From 1. */
    readonly epoch: number;
    readonly loss: number;
    readonly accuracy: number;
    /** Of the last span: a core's elements. */
    readonly learningRate: number;
    /** Before clipping. */
    readonly gradientNorm: number;
    /** Trained on so far. */
    readonly tokens: number;
  }
  | ({ readonly type: "evaluation" } & EvaluatedStep)
  /** NaN or diverged: parameters and optimizer went back to the last good step. */
  | { readonly type: "rollback"; readonly step: number; readonly reason: string }
  | { readonly type: "stopped"; readonly step: number; readonly reason: string };

/** What a job needs next. */
export type Work =
  | { readonly type: "evaluation"; readonly rows: readonly Example[] }
  | { readonly type: "step"; readonly rows: readonly Example[] }
  | { readonly type: "none" };

export interface Outcome {
  readonly state: JobState;
  readonly events: readonly TrainingEvent[];
}

/** Sums over the rows of a step. */
export interface StepSums extends RowLoss {
  readonly gradient: Float64Array;
  /** Tokens of the rows, whether they carry loss or not. */
  readonly read: number;
}

/** A job that cannot go on: nothing of what it learnt is worth keeping. */
export class DivergedError extends Error {
  override name = "DivergedError";
}

/** So many rollbacks are forgiven. */
export const MOST_ROLLBACKS = 3;
/** An evaluation has diverged above 1.5 × the base's loss + half a nat, */
const DIVERGED = { times: 1.5, nats: 0.5 };
/** and a step's loss above 4 × the mean of the last 16 asks for one ahead of its time. */
const SUSPICIOUS = { times: 4, window: 16, least: 4 };

export function startState({ start, weightDecay }: JobPlan): JobState {
  return {
    parameters: start,
    optimizer: adamw({ weightDecay }).init(start.length),
    step: 0,
    tokens: 0,
    base: undefined,
    evaluatedAt: 0,
    evaluations: [],
    best: undefined,
    losses: [],
    rollbacks: 0,
    stopped: undefined,
  };
}

/** Steps of the whole job. */
export function stepsOf({ pace }: JobPlan): number {
  return pace.epochs * pace.stepsPerEpoch;
}

/** A function of plan and state alone, so that a resumed job goes on as it would have. */
export function workOf(plan: JobPlan, state: JobState): Work {
  if (state.base === undefined) return { type: "evaluation", rows: plan.evaluated };
  if (state.stopped !== undefined) return { type: "none" };
  const due = evaluationAfter(plan.pace, state.step) || suspicious(state, state.base);
  if (due && state.evaluatedAt < state.step) return { type: "evaluation", rows: plan.evaluated };
  if (state.step >= stepsOf(plan)) return { type: "none" };
  const { epoch, from, to } = placeOf(plan.pace, plan.train.length, state.step);
  const order = epochOrder(plan.seed, epoch, plan.train.length).subarray(from, to);
  return { type: "step", rows: Array.from(order, (row) => plan.train[row]) };
}

/** Whether the last step's loss rose so far that an evaluation should not wait. */
function suspicious({ losses, step, evaluatedAt }: JobState, base: Evaluation): boolean {
  const before = losses.slice(-1 - SUSPICIOUS.window, -1).filter(Number.isFinite);
  if (before.length < SUSPICIOUS.least || step - evaluatedAt < SUSPICIOUS.least) return false;
  const mean = before.reduce((sum, loss) => sum + loss, 0) / before.length;
  return losses[losses.length - 1] > Math.max(SUSPICIOUS.times * mean, base.loss);
}

/**
 * After all rows of a step: clips, and moves the parameters. A loss or gradient that is not finite
 * takes them back to the best evaluated step instead, or to the start.
 * @throws {DivergedError} where that happened too often and no step was better than the base.
 */
export function stepDone(plan: JobPlan, state: JobState, sums: StepSums): Outcome {
  const step = state.step + 1;
  const { gradient, norm } = clippedMean(sums.gradient, sums.weight, plan.clip);
  const loss = sums.loss / sums.weight;
  const rates = ratesAt(plan, state);
  const done = {
    ...state,
    step,
    tokens: state.tokens + sums.read,
    losses: [...state.losses, Number.isFinite(loss) ? loss : NaN],
  };
  const event = {
    type: "step",
    step,
    epoch: placeOf(plan.pace, plan.train.length, state.step).epoch + 1,
    loss,
    accuracy: sums.hits / sums.tokens,
    learningRate: rates[rates.length - 1].rate,
    gradientNorm: norm,
    tokens: done.tokens,
  } as const;
  if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
    const reason = `the loss is ${loss}, the gradient's norm ${norm}: both must be finite`;
    return rollBack(plan, done, reason, [event]);
  }
  const { weightDecay } = plan;
  const moved = adamw({ weightDecay }).update(gradient, state.optimizer, state.parameters, rates);
  return {
    state: { ...done, parameters: moved.parameters, optimizer: moved.state },
    events: [event],
  };
}

function ratesAt(plan: JobPlan, { step, rollbacks }: JobState): readonly RateSpan[] {
  const { schedule: shape, warmup } = plan;
  const share = scheduleAt({ shape, warmup, steps: stepsOf(plan) }, step) / 2 ** rollbacks;
  return plan.rates.map(({ length, rate }) => ({ length, rate: rate * share }));
}

/**
 * After an evaluation: remembers the base's, or the best; stops where patience ends; goes back where
 * the parameters have diverged.
 * @throws {DivergedError} as `stepDone`, and where the base's own loss is not finite.
 */
export function evaluationDone(plan: JobPlan, state: JobState, sums: RowLoss): Outcome {
  const evaluation = { loss: sums.loss / sums.weight, accuracy: sums.hits / sums.tokens };
  if (state.base === undefined) return baseDone(state, evaluation);
  const { step, parameters, optimizer } = state;
  const event = { type: "evaluation", step, evaluation } as const;
  const limit = DIVERGED.times * state.base.loss + DIVERGED.nats;
  const evaluated = { ...state, evaluatedAt: step };
  if (!(evaluation.loss <= limit)) {
    const reason = `the evaluated loss is ${evaluation.loss}, at most ${limit.toFixed(4)} ` +
      `(the base's is ${state.base.loss.toFixed(4)}) is taken for sound`;
    return rollBack(plan, evaluated, reason, [event]);
  }
  const better = state.best === undefined || evaluation.loss < state.best.evaluation.loss;
  const next: JobState = {
    ...evaluated,
    evaluations: [...state.evaluations, { step, evaluation }],
    best: better ? { step, evaluation, parameters, optimizer } : state.best,
  };
  const events = [event];
  return outOfPatience(plan, next)
    ? stop(next, `no better evaluation in ${plan.patience} since step ${next.best?.step}`, events)
    : { state: next, events };
}

function baseDone(state: JobState, evaluation: Evaluation): Outcome {
  if (!Number.isFinite(evaluation.loss)) {
    throw new DivergedError(
      `Cannot train: the base's own loss on the evaluated rows is ${evaluation.loss}`,
    );
  }
  return { state: { ...state, base: evaluation }, events: [{ type: "base", evaluation }] };
}

function outOfPatience(plan: JobPlan, { best, evaluations, step }: JobState): boolean {
  if (plan.patience === 0 || step >= stepsOf(plan)) return false;
  const since = evaluations.filter((one) => best !== undefined && one.step > best.step);
  return since.length >= plan.patience;
}

/** Back to the best evaluated step, at half the rate. The schedule and the data go on. */
function rollBack(
  plan: JobPlan,
  state: JobState,
  fault: string,
  events: readonly TrainingEvent[],
): Outcome {
  const { step, best, base } = state;
  const rollbacks = state.rollbacks + 1;
  const to: Moved = best ?? { parameters: plan.start, optimizer: startState(plan).optimizer };
  const { parameters, optimizer } = to;
  const back = { ...state, parameters, optimizer, rollbacks, evaluatedAt: step };
  if (rollbacks > MOST_ROLLBACKS) {
    const reason = `diverged for the ${rollbacks}th time at step ${step}: ${fault}`;
    if (best !== undefined && base !== undefined && best.evaluation.loss < base.loss) {
      return stop(back, `${reason}; the core of step ${best.step} is kept`, events);
    }
    throw new DivergedError(
      `Cannot train: ${reason}; a smaller learning rate multiplier may help`,
    );
  }
  const reason = `${fault}; back to ${best === undefined ? "the start" : `step ${best.step}`}, ` +
    `the learning rate is halved`;
  return { state: back, events: [...events, { type: "rollback", step, reason }] };
}

function stop(state: JobState, reason: string, events: readonly TrainingEvent[]): Outcome {
  return {
    state: { ...state, stopped: reason },
    events: [...events, { type: "stopped", step: state.step, reason }],
  };
}
