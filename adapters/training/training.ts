/**
 * Training a core as the command line, the server and the library ask for it: the request, what is
 * reported on the way, and what comes out.
 */
import type { Example } from "../../src/train/gradients/model.ts";
import type { Evaluation, TrainingEvent } from "../../src/train/job.ts";
import type { SettledCounts } from "../../src/train/plan.ts";
import type { Core } from "../lotr/core.ts";
import type { FactorSet } from "../lotr/factors.ts";
import type { Hyperparameters } from "./hyperparameters.ts";

export interface TrainRequest {
  /** With `teaching`, all of them and of `valid`, to follow a teacher instead of the rows' own tokens. */
  readonly train: readonly Example[];
  /** Empty = evaluations, and so the gate, go by a sample of the training rows. */
  readonly valid: readonly Example[];
  readonly hyperparameters: Hyperparameters;
  /** The factor set to train for; undefined = the default one. */
  readonly factors?: FactorSet;
  /** A checkpoint's bytes to go on from; the result is the same to the last bit. */
  readonly resume?: Uint8Array;
  /** Ends training after the running step, writes a last checkpoint, then rejects. */
  readonly signal?: AbortSignal;
  /** Steps between checkpoints; undefined = one at each evaluation. */
  readonly checkpointEvery?: number;
  /** Hears of each step and evaluation. */
  readonly onProgress?: (progress: TrainProgress) => void;
  /** Writes a checkpoint; awaited, so that training never runs ahead of what is durable. */
  readonly onCheckpoint?: (checkpoint: TrainCheckpoint) => Promise<void>;
}

export type TrainProgress =
  /** Before the first step: what "auto" became, and how the base itself does. */
  | {
    readonly type: "start";
    readonly settled: SettledHyperparameters;
    readonly steps: number;
    /** Steps already done, where it resumes. */
    readonly done: number;
    /** Tokens trained on in these. */
    readonly tokens: number;
    readonly tokensPerEpoch: number;
    readonly base: Evaluation;
  }
  | (Extract<TrainingEvent, { readonly type: "step" }> & {
    /** Of the whole job. */
    readonly steps: number;
    readonly tokensPerSecond: number;
  })
  | Exclude<TrainingEvent, { readonly type: "base" | "step" }>;

export interface SettledHyperparameters extends SettledCounts {
  /** The peak rate: rule × multiplier. */
  readonly learningRate: number;
}

export interface TrainCheckpoint {
  readonly step: number;
  /** Everything a resumed run needs. */
  readonly bytes: Uint8Array;
  /** The core as of this step, servable. */
  readonly core: Core;
  readonly evaluation: Evaluation | undefined;
}

export interface TrainResult {
  readonly core: Core;
  /** The set that the core names: the request's own, or the new one of the LoTR method. */
  readonly factors: FactorSet;
  /** The best step's evaluation against the base's, on the same rows. */
  readonly base: Evaluation;
  readonly best: Evaluation & { readonly step: number };
  /** Undefined where the core is better than the base; else why it should not be published. */
  readonly refused: string | undefined;
  readonly settled: SettledHyperparameters;
  readonly steps: number;
  readonly trainedTokens: number;
  readonly trainableParameters: number;
}
