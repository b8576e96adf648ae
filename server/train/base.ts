/**
 * What `deno task train` needs of a base model, so that the command can be tested with a model
 * without weights. It owns these contracts only; `real_base.ts` keeps them with a real model.
 */
import type { FactorSet } from "../../adapters/factors.ts";
import type { CoreTrainer } from "../../adapters/training.ts";
import type { Example } from "../../src/train/model.ts";

/** Rows that were read, and what their reader has to say about them. */
export interface TrainData {
  readonly examples: readonly Example[];
  readonly warnings: readonly string[];
}

export interface DataOptions {
  /** Most tokens of a row; undefined = the model's. */
  readonly maxContext: number | undefined;
  readonly longRows: "refuse" | "truncate";
}

export interface TrainerOptions {
  /** Undefined = the base's default set, made where it is missing. */
  readonly factors: FactorSet | undefined;
  readonly maxContext: number | undefined;
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
  readonly id: string;
  digest(): Promise<string>;
  /**
   * Reads a JSONL file whole.
   * @throws {TypeError | RangeError} naming the line and the reason.
   */
  readData(bytes: Uint8Array, options: DataOptions): TrainData;
  /** A row as people can check it: its tokens, those that carry loss marked. */
  showExample(example: Example): string;
  openTrainer(options: TrainerOptions): Promise<OpenedTrainer>;
  close(): Promise<void>;
}

/** Opens the base that a spec names; undefined = the default one. */
export type BaseLoader = (spec: string | undefined) => Promise<TrainBase>;
