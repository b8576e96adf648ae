/**
 * Trains and judges trials over one loaded model: all that are asked for at once, as tenants of
 * shared micro-batches, each judged through the engine as it ends and written down. It owns which
 * factor set a method means; which trials are wanted is `quality.ts`'.
 */
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import type { BaseTrainer } from "../../adapters/training/base_trainer.ts";
import type { Lembas } from "../../adapters/lembas.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import type { TrainProgress, TrainRequest, TrainResult } from "../../adapters/training/training.ts";
import { DEFAULT_HYPERPARAMETERS } from "../../adapters/training/hyperparameters.ts";
import { judge } from "./answers.ts";
import type { TaskData } from "./data.ts";
import type { RunFile, Trial, TrialRun } from "./runs.ts";
import type { TrialStates } from "./states.ts";

/** Where factors come from, and the core's rank. */
export interface Method {
  readonly name: string;
  readonly factors: "default" | "random";
  readonly rank: number;
}

/** Of random factor sets; runs differ by the seed of their training. */
const SEED_OF_RANDOM = 0;

/** Reads `core32`, `core16`, `random32`, …: the default factor set, or a random one of that rank. */
export function parseMethod(name: string): Method {
  const match = /^(core|random)([1-9]\d*)$/.exec(name);
  if (match === null) {
    throw new TypeError(
      `Cannot bench: method is ${name}, must be core or random with a rank, as core32`,
    );
  }
  return { name, factors: match[1] === "core" ? "default" : "random", rank: Number(match[2]) };
}

/** Where trials are kept, and who hears of them. */
export interface TrialPorts {
  readonly file: RunFile;
  readonly states: TrialStates;
  readonly tell: (line: string) => void;
}

/** Runs trials, and remembers those that are on file. */
export class TrialBench {
  readonly #lembas: Lembas;
  readonly #ports: TrialPorts;
  readonly #sets = new Map<string, FactorSet>();
  /** Judging is one at a time: a run is on file as early as it can be. */
  #judging: Promise<unknown> = Promise.resolve();

  constructor(lembas: Lembas, ports: TrialPorts) {
    this.#lembas = lembas;
    this.#ports = ports;
  }

  get #training(): BaseTrainer {
    const { training, device } = this.#lembas;
    if (training !== undefined) return training;
    throw new TypeError(`Cannot train on ${device}: training runs on the CPU alone`);
  }

  /** The method's factor set, made where it is missing; the engine serves it from now on. */
  async factors({ factors, rank }: Method): Promise<FactorSet> {
    const key = factors === "default" ? factors : `random${rank}`;
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    const { stack } = this.#lembas.registry;
    const made = factors === "default"
      ? await this.#training.defaultFactors()
      : randomFactors({ stack, rank, seed: SEED_OF_RANDOM });
    this.#lembas.addFactors(made);
    this.#sets.set(key, made);
    return made;
  }

  /** The base's own answers. */
  async base(trial: Trial, data: TaskData): Promise<TrialRun> {
    return this.#ports.file.find(trial) ?? await this.#judged(trial, data, undefined);
  }

  /**
   * Trains all that are not on file, together. One that fails is told of and left out; a later run
   * of the bench tries it again.
   */
  async train(
    trials: readonly { readonly trial: Trial; readonly method: Method }[],
    data: TaskData,
  ): Promise<readonly TrialRun[]> {
    const runs = await Promise.all(trials.map(async ({ trial, method }) => {
      const known = this.#ports.file.find(trial);
      if (known !== undefined) return known;
      try {
        return await this.#judged(trial, data, await this.#trained(trial, method, data));
      } catch (error) {
        this.#ports.tell(`  ${nameOf(trial)} failed: ${error}`);
        return undefined;
      }
    }));
    return runs.filter((run) => run !== undefined);
  }

  /** Goes on from the trial's checkpoint; from the start where it is of another time's trainer. */
  async #trained(trial: Trial, method: Method, data: TaskData): Promise<TrainResult> {
    const request = await this.#request(trial, method, data);
    const { trainer } = this.#training;
    const resume = await this.#ports.states.read(trial);
    if (resume === undefined) return await trainer.train(request);
    try {
      return await trainer.train({ ...request, resume });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.#ports.tell(`  ${nameOf(trial)} begins again: ${error.message}`);
      return await trainer.train(request);
    }
  }

  async #request(trial: Trial, method: Method, data: TaskData): Promise<TrainRequest> {
    const { rate, seed, epochs, batch } = trial;
    return {
      train: data.train,
      valid: data.valid,
      factors: await this.factors(method),
      hyperparameters: {
        ...DEFAULT_HYPERPARAMETERS,
        epochs,
        batchSize: batch,
        learningRateMultiplier: rate,
        rank: method.rank,
        patience: 0,
        seed,
      },
      onCheckpoint: ({ bytes }) => this.#ports.states.write(trial, bytes),
      onProgress: (progress) => {
        const text = progressText(progress);
        if (text !== undefined) this.#ports.tell(`  ${nameOf(trial)}, ${text}`);
      },
    };
  }

  #judged(trial: Trial, data: TaskData, trained: TrainResult | undefined): Promise<TrialRun> {
    const run = this.#judging.then(() => this.#judge(trial, data, trained));
    this.#judging = run.catch(() => {});
    return run;
  }

  async #judge(
    trial: Trial,
    data: TaskData,
    trained: TrainResult | undefined,
  ): Promise<TrialRun> {
    const name = trained === undefined ? undefined : `bench/${trial.task}-${crypto.randomUUID()}`;
    if (name !== undefined && trained !== undefined) this.#lembas.addCore(name, trained.core);
    try {
      const valid = await judge(this.#lembas, data.judgedValid, name);
      const { rowsExact, rowsLabel, exact, label } = await judge(this.#lembas, data.test, name);
      const run: TrialRun = {
        ...trial,
        parameters: trained?.trainableParameters ?? 0,
        valid: { exact: valid.exact, label: valid.label },
        test: { exact, label },
        ...(trained && { training: trainingOf(trained) }),
        rowsExact,
        rowsLabel,
      };
      await this.#ports.file.add(run);
      await this.#ports.states.remove(trial);
      this.#ports.tell(describe(run));
      return run;
    } finally {
      if (name !== undefined) this.#lembas.registry.remove(name);
    }
  }
}

/** Undefined for what need not be told. */
function progressText(progress: TrainProgress): string | undefined {
  switch (progress.type) {
    case "evaluation":
      return `step ${progress.step}: validation loss ${progress.evaluation.loss.toFixed(4)}`;
    case "rollback":
      return `step ${progress.step}: ${progress.reason}`;
    default:
      return undefined;
  }
}

function trainingOf({ settled, base, best, steps, trainedTokens }: TrainResult) {
  return {
    learningRate: settled.learningRate,
    baseLoss: base.loss,
    bestLoss: best.loss,
    bestStep: best.step,
    steps,
    tokens: trainedTokens,
  };
}

function nameOf({ task, method, rate, seed }: Trial): string {
  return method === "base" ? `${task} base` : `${task} ${method} × ${rate}, seed ${seed}`;
}

function describe(run: TrialRun): string {
  const percent = ({ label, exact }: TrialRun["test"]) =>
    `${(100 * label).toFixed(1)}% by label, ${(100 * exact).toFixed(1)}% by answer`;
  return `${nameOf(run)}: validation ${percent(run.valid)}; test ${percent(run.test)}`;
}
