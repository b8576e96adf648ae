/**
 * lembas as a contestant of training speed: a base loaded as a server loads it, and jobs of its real
 * trainer, whose steps are timed between the events that it reports. It owns what it opens until
 * disposed.
 */
import { BaseTrainer } from "../../adapters/training/base_trainer.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { loadBase, type LoadedBase } from "../../adapters/loaded_base.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { type Stack, stackOf } from "../../adapters/lotr/stack.ts";
import type { TrainProgress, TrainRequest, TrainResult } from "../../adapters/training/training.ts";
import { DEFAULT_HYPERPARAMETERS } from "../../adapters/training/hyperparameters.ts";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { DeviceLock } from "../../src/runtime/device_lock.ts";
import type { Example } from "../../src/train/gradients/model.ts";
import { lmExample } from "../../src/train/data/dataset.ts";
import type { Contestant, Work } from "./contest.ts";

/** Chooses the kernels that a server has by default. */
const MAX_BATCH = 32;

export interface TraineeOptions {
  readonly model: string | undefined;
  /** Most tokens of a row. */
  readonly maxContext: number;
}

/** A loaded base that trains cores over random factors: they cost what any cost. */
export class Trainee implements Contestant, AsyncDisposable {
  readonly label = "lembas";
  readonly loaded: LoadedBase;
  readonly #training: BaseTrainer;
  readonly #stack: Stack;
  readonly #sets = new Map<number, FactorSet>();

  private constructor(loaded: LoadedBase, stack: Stack) {
    this.loaded = loaded;
    this.#stack = stack;
    const lock = new DeviceLock();
    this.#training = new BaseTrainer(loaded.base.shared, {
      turn: () => lock.take(0),
      pieces: "layers",
    });
  }

  static async open({ model, maxContext }: TraineeOptions): Promise<Trainee> {
    const loaded = await loadBase({ model, dtype: "int8", maxBatch: MAX_BATCH, maxContext });
    const { checkpoint } = loaded;
    return new Trainee(loaded, stackOf(await checkpoint.digest(), checkpoint.config));
  }

  get checkpoint(): Checkpoint {
    return this.loaded.checkpoint;
  }

  /** Random factors of this rank. */
  factors(rank: number): FactorSet {
    const known = this.#sets.get(rank) ?? randomFactors({ stack: this.#stack, rank });
    this.#sets.set(rank, known);
    return known;
  }

  /** Evaluations go by one row of two tokens, and their time is not a step's. */
  async steps(work: Work): Promise<readonly number[]> {
    const watch = new StepWatch();
    const valid = [lmExample(work.rows[0].tokens.subarray(0, 2), 1)];
    await this.train(work, { valid, onProgress: (progress) => watch.hear(progress) });
    return watch.seconds;
  }

  /** One job; many at once share micro-batches. */
  train(
    { rows, batch, epochs, rank }: Work,
    options: { readonly valid: readonly Example[] } & Pick<TrainRequest, "onProgress">,
  ): Promise<TrainResult> {
    return this.#training.trainer.train({
      ...options,
      train: rows,
      factors: this.factors(rank),
      hyperparameters: {
        ...DEFAULT_HYPERPARAMETERS,
        batchSize: batch,
        epochs,
        rank,
        patience: 0,
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#training.close();
    this.loaded.base.release();
    this.loaded.device.release();
    this.loaded.checkpoint.close();
  }
}

/** Times steps from the event before each: evaluations fall between two events as well. */
class StepWatch {
  readonly seconds: number[] = [];
  #since = performance.now();

  hear({ type }: TrainProgress): void {
    const now = performance.now();
    if (type === "step") this.seconds.push((now - this.#since) / 1e3);
    this.#since = now;
  }
}
