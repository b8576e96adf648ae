/**
 * Training as callers ask for it: hyperparameters settled, the vector to train made, the job run
 * beside all others of its factor set, checkpoints written and read, a core made of the best step,
 * and the gate that says whether it may be published. What a step does is in `src/train`.
 */
import { dataDigest, type Identity, readState, writeState } from "../../src/train/checkpoint.ts";
import {
  DivergedError,
  type JobPlan,
  type JobState,
  stepsOf,
  type TrainingEvent,
} from "../../src/train/job.ts";
import type { Example, GradientModel } from "../../src/train/gradients/model.ts";
import { epochOrder, paceOf, settle } from "../../src/train/plan.ts";
import { aborted, type JobHooks } from "../../src/train/running_job.ts";
import { Trainer } from "../../src/train/trainer.ts";
import type { FactorSet } from "../lotr/factors.ts";
import { type Trainable, trainableOf } from "../lotr/trainable.ts";
import {
  checkHyperparameters,
  HYPERPARAMETER_NAMES,
  HYPERPARAMETERS,
  type TrainMethod,
} from "./hyperparameters.ts";
import type {
  SettledHyperparameters,
  TrainProgress,
  TrainRequest,
  TrainResult,
} from "./training.ts";

export interface CoreTrainerOptions {
  /**
   * Opens a model that trains over a factor set, by so many of a teacher's tokens where there is one;
   * released by the trainer when it is done with it.
   */
  readonly models: Readonly<Record<TrainMethod, ModelOpener>>;
  /** The set of requests that name none. */
  readonly defaultFactors: () => Promise<FactorSet>;
  /** Milliseconds of some clock, for speeds and the age of checkpoints. */
  readonly now?: () => number;
}

export type ModelOpener = (factors: FactorSet, taught?: number) => Promise<GradientModel>;

/** Most training rows that evaluations go by where there are no validation rows. */
const MOST_SAMPLED = 64;
/** The epoch number whose shuffle draws that sample; no job has so many epochs. */
const SAMPLE_EPOCH = 2 ** 31;

/** A model that trains over one factor set by one method, and how many jobs use it. */
interface OpenModel {
  readonly opened: Promise<{ readonly model: GradientModel; readonly trainer: Trainer }>;
  users: number;
}

/**
 * Trains cores; many `train` calls at once share micro-batches where they name the same factor set
 * and method, and are taught alike. A model that no job uses is kept until another one is opened.
 */
export class CoreTrainer implements AsyncDisposable {
  readonly #options: CoreTrainerOptions;
  readonly #now: () => number;
  readonly #models = new Map<string, OpenModel>();

  constructor(options: CoreTrainerOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** @throws {DOMException} AbortError; {TypeError | RangeError} naming what does not fit. */
  async train(request: TrainRequest): Promise<TrainResult> {
    if (request.signal?.aborted) throw aborted();
    const factors = request.factors ?? await this.#options.defaultFactors();
    const job = jobOf(request, factors);
    // the LoTR method at a smaller rank trains a factor set that is cut to that rank
    const { method } = request.hyperparameters;
    const model = this.#modelFor(method, job.trainable.factors, job.taught);
    model.users++;
    try {
      const { trainer } = await model.opened;
      // the clock of the reported speed starts here, after the model is open
      return resultOf(job, await trainer.run(job.plan, hooksOf(request, job, this.#now)));
    } finally {
      model.users--;
    }
  }

  /** Gives back the models that no running job needs. */
  async release(): Promise<void> {
    for (const [key, { users, opened }] of this.#models) {
      if (users > 0) continue;
      this.#models.delete(key);
      (await opened.catch(() => undefined))?.model.release();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  /** After a failure to open, the next caller tries again. */
  #modelFor(method: TrainMethod, factors: FactorSet, taught: number | undefined): OpenModel {
    const key = `${method} ${factors.digest} ${taught ?? ""}`;
    const known = this.#models.get(key);
    if (known !== undefined) return known;
    const added: OpenModel = { opened: this.#open(method, factors, taught), users: 0 };
    this.#models.set(key, added);
    added.opened.catch(() => {
      if (this.#models.get(key) === added) this.#models.delete(key);
    });
    return added;
  }

  async #open(method: TrainMethod, factors: FactorSet, taught: number | undefined) {
    await this.release();
    const model = await this.#options.models[method](factors, taught);
    return { model, trainer: new Trainer(model, { now: this.#now }) };
  }
}

/** A request made ready. */
interface PreparedJob {
  readonly plan: JobPlan;
  readonly trainable: Trainable;
  /** Tokens of a teacher by which each position is compared; undefined = there is none. */
  readonly taught: number | undefined;
  readonly settled: SettledHyperparameters;
  /** Tokens of an epoch. */
  readonly tokens: number;
  readonly identity: Identity;
  readonly from: JobState | undefined;
}

function jobOf(request: TrainRequest, factors: FactorSet): PreparedJob {
  const { train, hyperparameters: asked } = request;
  if (train.length === 0) throw new RangeError("Cannot train: there is no training row");
  checkHyperparameters(asked);
  const counts = settle(asked, train.length);
  const evaluated = request.valid.length > 0 ? request.valid : sampleOf(train, asked.seed);
  const { learningRateMultiplier } = counts;
  const trainable = trainableOf(asked.method, factors, {
    rank: asked.rank,
    learningRateMultiplier,
  });
  const { start, rates, rank } = trainable;
  const tokens = { train: tokensOf(train), evaluated: tokensOf(evaluated) };
  const pace = paceOf(counts, train.length, tokens);
  const { schedule, warmup, weightDecay, clip, patience, seed } = asked;
  const optimization = { schedule, warmup, weightDecay, clip, patience, seed };
  const settled = { ...counts, learningRate: rates[rates.length - 1].rate };
  const identity = identityOf(request, factors, settled);
  const { resume } = request;
  return {
    plan: { train, evaluated, rank, start, pace, rates, ...optimization },
    trainable,
    taught: taughtBy([...train, ...evaluated]),
    settled,
    tokens: tokens.train,
    identity,
    from: resume === undefined ? undefined : readState(resume, identity, start.length),
  };
}

/** @throws {RangeError} where not all rows are taught alike */
function taughtBy(rows: readonly Example[]): number | undefined {
  const counts = new Set(rows.map(({ teaching }) => teaching?.count));
  const [count, other] = counts;
  if (counts.size === 1) return count;
  throw new RangeError(
    `Cannot train: some rows are taught by ${count ?? "no"} tokens of a teacher, ` +
      `others by ${other ?? "none"}`,
  );
}

/**
 * What a training checkpoint belongs to: data, base, factors and every hyperparameter, settled,
 * each as a name and a text, so that a refusal to go on can say which differs.
 */
function identityOf(
  { train, valid, hyperparameters }: TrainRequest,
  factors: FactorSet,
  { learningRate, ...counts }: SettledHyperparameters,
): Identity {
  const values = { ...hyperparameters, ...counts };
  const named = HYPERPARAMETER_NAMES.filter((name) => name !== "learningRateMultiplier")
    .map((name) => [`the ${HYPERPARAMETERS[name].title}`, String(values[name])]);
  return {
    "the base": factors.base,
    "the factor set": factors.digest,
    "the data": dataDigest(train, valid),
    ...Object.fromEntries(named),
    // last, since the first difference is named: the rate often differs because the rank does
    "the learning rate": String(learningRate),
  };
}

function sampleOf(rows: readonly Example[], seed: number): Example[] {
  const order = epochOrder(seed, SAMPLE_EPOCH, rows.length);
  return Array.from(order.subarray(0, MOST_SAMPLED), (row) => rows[row]);
}

function tokensOf(rows: readonly Example[]): number {
  return rows.reduce((sum, { tokens }) => sum + tokens.length, 0);
}

function hooksOf(request: TrainRequest, job: PreparedJob, now: () => number): JobHooks {
  const { signal, checkpointEvery, onCheckpoint } = request;
  const onEvent = reporter(request, job, now);
  return {
    onEvent,
    ...(job.from === undefined ? {} : { from: job.from }),
    ...(signal === undefined ? {} : { signal }),
    ...(checkpointEvery === undefined ? {} : { stateEvery: checkpointEvery }),
    ...(onCheckpoint === undefined ? {} : {
      onState: (state) => {
        const last = state.evaluations.at(-1);
        return onCheckpoint({
          step: state.step,
          bytes: writeState(state, job.identity),
          core: job.trainable.result(state.parameters).core,
          evaluation: last?.step === state.step ? last.evaluation : undefined,
        });
      },
    }),
  };
}

/** Turns a job's events into the caller's progress; a resumed job tells its start at once. */
function reporter(
  { onProgress }: TrainRequest,
  job: PreparedJob,
  now: () => number,
): (event: TrainingEvent) => void {
  const steps = stepsOf(job.plan);
  const before = job.from?.tokens ?? 0;
  let since = now();
  const started = (base: TrainResult["base"], done: number): TrainProgress => {
    since = now();
    const tokens = done === 0 ? 0 : before;
    const { settled, tokens: tokensPerEpoch } = job;
    return { type: "start", settled, steps, done, tokens, tokensPerEpoch, base };
  };
  if (job.from?.base !== undefined) onProgress?.(started(job.from.base, job.from.step));
  return (event) => {
    switch (event.type) {
      case "base":
        return onProgress?.(started(event.evaluation, 0));
      case "step": {
        const seconds = (now() - since) / 1000;
        const tokensPerSecond = seconds > 0 ? (event.tokens - before) / seconds : 0;
        return onProgress?.({ ...event, steps, tokensPerSecond });
      }
      default:
        return onProgress?.(event);
    }
  };
}

function resultOf({ plan, trainable, settled }: PreparedJob, end: JobState): TrainResult {
  const { base, best } = end;
  if (base === undefined || best === undefined) {
    throw new DivergedError(
      `Cannot keep a core: no step of ${end.step} was evaluated as sound; ` +
        `a smaller learning rate multiplier may help`,
    );
  }
  const { core, factors } = trainable.result(best.parameters);
  const better = best.evaluation.loss < base.loss;
  return {
    core,
    factors,
    base,
    best: { ...best.evaluation, step: best.step },
    refused: better ? undefined : `the best loss is ${best.evaluation.loss.toFixed(4)} ` +
      `(step ${best.step}), not below the base's own ${base.loss.toFixed(4)}`,
    settled,
    steps: end.step,
    trainedTokens: end.tokens,
    trainableParameters: plan.start.length,
  };
}
