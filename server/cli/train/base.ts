/**
 * What `deno task train` is given: a process, and a base model that the tests replace with one
 * without weights (`real_base.ts` opens a real one).
 */
import type { FactorSet } from "../../../adapters/lotr/factors.ts";
import type { CoreTrainer } from "../../../adapters/training/core_trainer.ts";
import type {
  OpenedTeacher,
  TeacherSource,
} from "../../../adapters/training/distillation/open_teacher.ts";
import type { Marks } from "../../../src/train/data/dry_run.ts";
import type { TextSource } from "../../../src/train/data/render.ts";
import type { ProgressScreen } from "./progress.ts";

export interface TrainerOptions {
  /** Undefined = the base's default set, made where it is missing. */
  readonly factors: FactorSet | undefined;
  /** Most tokens of a row. */
  readonly maxContext: number;
  /** Called with lines on slow work and with warnings. */
  readonly onNote: (text: string) => void;
}

/** Loaded weights that train; close it. */
export interface OpenedTrainer {
  readonly trainer: Pick<CoreTrainer, "train">;
  /** The set that is trained for. */
  readonly factors: FactorSet;
  /** Over the same weights; closed before anything trains. */
  openTeacher(source: TeacherSource): Promise<OpenedTeacher>;
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

/** What a process gives the command. */
export interface TrainEnvironment {
  readonly args: readonly string[];
  readonly env: (name: string) => string | undefined;
  readonly version: string;
  readonly load: BaseLoader;
  /** Where progress and failures go. */
  readonly screen: ProgressScreen;
  /** A line of the result. */
  readonly print: (line: string) => void;
  /** How a dry run marks tokens with loss in what it prints. */
  readonly marks: Marks;
  /** Milliseconds, rising. */
  readonly now: () => number;
  /** Resolves after so many milliseconds, or when `signal` fires. */
  readonly wait: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}
