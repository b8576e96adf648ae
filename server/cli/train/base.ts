/**
 * What `deno task train` needs of a base model, so that the command can be tested with a model
 * without weights. It owns these contracts only; `real_base.ts` keeps them with a real model.
 */
import type { FactorSet } from "../../../adapters/lotr/factors.ts";
import type { CoreTrainer } from "../../../adapters/training/training.ts";
import type { TextSource } from "../../../src/train/data/render.ts";

export interface TrainerOptions {
  /** Undefined = the base's default set, made where it is missing. */
  readonly factors: FactorSet | undefined;
  /** Most tokens of a row. */
  readonly maxContext: number;
  /** Hears of what takes its time, and of what is odd. */
  readonly onNote: (text: string) => void;
}

/** Loaded weights that train; close it. */
export interface OpenedTrainer {
  readonly trainer: CoreTrainer;
  /** The set that is trained for. */
  readonly factors: FactorSet;
  close(): Promise<void>;
}

/** A base of which config and tokenizer are read, and no weights yet; close it. */
export interface TrainBase {
  readonly source: TextSource;
  digest(): Promise<string>;
  openTrainer(options: TrainerOptions): Promise<OpenedTrainer>;
  close(): Promise<void>;
}

/** Opens the base that a spec names; undefined = the default one. */
export type BaseLoader = (spec: string | undefined) => Promise<TrainBase>;
