/**
 * A base without weights that trains: losses follow a formula, the core's elements are sums over the
 * steps. It resumes exactly, so the command's promises about
 * checkpoints can be tested in milliseconds.
 */
import { plainForm } from "./form.ts";
import { coreFrom } from "../../adapters/lotr/core.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { type Stack, stackOf } from "../../adapters/lotr/stack.ts";
import type {
  SettledHyperparameters,
  TrainRequest,
  TrainResult,
} from "../../adapters/training/training.ts";
import type {
  OpenedTeacher,
  TeacherSource,
} from "../../adapters/training/distillation/open_teacher.ts";
import type { Example } from "../../src/train/gradients/model.ts";
import type { CoreTrainer } from "../../adapters/training/core_trainer.ts";
import type { Evaluation } from "../../src/train/job.ts";
import type { TrainBase } from "../../server/cli/train/base.ts";
import type { DecoderConfig } from "../../src/checkpoint/checkpoint.ts";
import { EOS, FakeTokenizer } from "./tokenizer.ts";

const DIGEST = "b".repeat(64);
const TOKENS_PER_STEP = 40;
const BASE: Evaluation = { loss: 2.5, accuracy: 0.25 };

export interface FakeTrainerOptions {
  /** Rank of the default factor set; 8 where it is not given. */
  readonly defaultRank?: number;
  /** Awaited before each step, from 1; given what ends the run. */
  readonly pace?: (step: number, signal: AbortSignal | undefined) => Promise<void>;
  /** Why the gate refuses what comes out. */
  readonly refuses?: (request: TrainRequest) => string | undefined;
  /** Why a run breaks. */
  readonly fails?: (request: TrainRequest) => string | undefined;
}

export function fakeStack(): Stack {
  return stackOf(DIGEST, CONFIG);
}

export function fakeFactors(rank = 8): FactorSet {
  return randomFactors({ stack: fakeStack(), rank, modules: ["q_proj", "v_proj"], seed: 1 });
}

const CONFIG: DecoderConfig = {
  ...plainForm(8),
  architecture: "llama",
  vocabSize: new FakeTokenizer().vocabSize,
  hiddenSize: 16,
  intermediateSize: 32,
  numLayers: 2,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 8,
  maxPositions: 64,
  rmsNormEps: 1e-5,
  tieEmbeddings: true,
  qkvBias: false,
  outputBias: false,
  bosTokenId: undefined,
  eosTokenIds: [EOS],
};

/** A base of a tokenizer and no weights, for prompts with completions of at most 64 tokens. */
export function fakeBase(options: FakeTrainerOptions = {}): TrainBase {
  return {
    source: {
      id: "tiny",
      config: CONFIG,
      tokenizer: new FakeTokenizer(),
      chatTemplate: undefined,
    },
    digest: () => Promise.resolve(DIGEST),
    openTrainer: ({ factors = fakeFactors(options.defaultRank) }) =>
      Promise.resolve({
        trainer: new FakeTrainer(options),
        factors,
        openTeacher: fakeTeacher,
        close: () => Promise.resolve(),
      }),
    close: () => Promise.resolve(),
  };
}

/** A teacher that answers "AB" and is sure of every token; its digest is its name. */
async function fakeTeacher({ teacher }: TeacherSource): Promise<OpenedTeacher> {
  if (teacher === "nobody") throw new TypeError("there is neither a file nor a directory 'nobody'");
  const answer = new FakeTokenizer().encode("AB");
  return await Promise.resolve({
    teacher: {
      digest: teacher,
      answered: ({ tokens, line }: Example) =>
        Promise.resolve({
          tokens: Int32Array.from([...tokens, ...answer]),
          weights: Float32Array.from([...tokens].map(() => 0).concat(answer.map(() => 1))),
          line,
        }),
      taught: (row: Example, count: number) => {
        const learnt = [...row.tokens].filter((_, i) => i > 0 && row.weights[i] !== 0);
        const shares = [1, ...Array<number>(count).fill(0)];
        const teaching = {
          count,
          tokens: Int32Array.from(
            learnt.flatMap((token) => shares.slice(1).map((_, i) => token + i)),
          ),
          shares: Float32Array.from(learnt.flatMap(() => shares)),
        };
        return Promise.resolve({ ...row, teaching });
      },
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
}

/** A file of prompts and completions. */
export const FAKE_ROWS = [
  ["hello", " world"],
  ["abc", " def"],
  ["the quick", " fox"],
  ["lembas", " bread"],
  ["fi", "ve"],
].map(([prompt, completion]) => `${JSON.stringify({ prompt, completion })}\n`).join("");

interface State {
  step: number;
  readonly cores: number[];
  best: Evaluation & { step: number };
}

export class FakeTrainer implements Pick<CoreTrainer, "train"> {
  readonly #options: FakeTrainerOptions;

  constructor(options: FakeTrainerOptions) {
    this.#options = options;
  }

  async train(request: TrainRequest): Promise<TrainResult> {
    const { hyperparameters: { rank }, factors = fakeFactors(), onProgress } = request;
    const settled = settle(request);
    const steps = settled.epochs * Math.ceil(request.train.length / settled.batchSize);
    const size = factors.layers * factors.modules.length * rank ** 2;
    const state: State = request.resume === undefined
      ? { step: 0, cores: Array(size).fill(0), best: { ...BASE, step: 0 } }
      : JSON.parse(new TextDecoder().decode(request.resume));
    const tokensPerEpoch = request.train.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const { step: done } = state;
    const tokens = TOKENS_PER_STEP * done;
    onProgress?.({ type: "start", settled, steps, done, tokens, tokensPerEpoch, base: BASE });
    const coreNow = () => coreFrom(factors, rank, Float32Array.from(state.cores));
    const save = () =>
      request.onCheckpoint?.({
        step: state.step,
        bytes: new TextEncoder().encode(JSON.stringify(state)),
        core: coreNow(),
        evaluation: state.best,
      });
    while (state.step < steps) {
      await this.#options.pace?.(state.step + 1, request.signal);
      if (request.signal?.aborted) {
        await save();
        throw request.signal.reason;
      }
      const failure = this.#options.fails?.(request);
      if (failure !== undefined) throw new RangeError(failure);
      advance(state, request, settled, steps);
      if (state.step % (request.checkpointEvery ?? 2) === 0) await save();
    }
    return {
      core: coreNow(),
      factors,
      base: BASE,
      best: state.best,
      refused: this.#options.refuses?.(request),
      settled,
      steps,
      trainedTokens: TOKENS_PER_STEP * steps,
      trainableParameters: size,
    };
  }
}

function settle({ hyperparameters }: TrainRequest): SettledHyperparameters {
  const { epochs, batchSize, learningRateMultiplier: multiplier } = hyperparameters;
  return {
    epochs: epochs === "auto" ? 2 : epochs,
    batchSize: batchSize === "auto" ? 2 : batchSize,
    learningRateMultiplier: multiplier === "auto" ? 1 : multiplier,
    learningRate: 0.005 * (multiplier === "auto" ? 1 : multiplier),
  };
}

function advance(
  state: State,
  { onProgress, hyperparameters: { seed } }: TrainRequest,
  settled: SettledHyperparameters,
  steps: number,
): void {
  const { learningRate, learningRateMultiplier } = settled;
  const step = ++state.step;
  state.cores.forEach((value, i) =>
    state.cores[i] = value + learningRate * Math.sin(12.9898 * (i + 1) + 78.233 * step + seed)
  );
  const loss = BASE.loss * Math.exp(-0.1 * step * Math.min(learningRateMultiplier, 2));
  const accuracy = 1 - loss / 3.5;
  onProgress?.({
    type: "step",
    step,
    steps,
    epoch: Math.ceil(step * settled.epochs / steps),
    loss,
    accuracy,
    learningRate,
    gradientNorm: loss / 2,
    tokens: TOKENS_PER_STEP * step,
    tokensPerSecond: 1000,
  });
  if (step % 2 !== 0) return;
  state.best = { loss: loss + 0.05, accuracy: accuracy - 0.05, step };
  onProgress?.({ type: "evaluation", step, evaluation: state.best });
}
