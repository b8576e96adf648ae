/**
 * A base without weights that trains: rows are lines of text, losses follow a formula, the core's
 * elements are sums of a hash over the steps. It resumes exactly, so the command's promises about
 * checkpoints can be tested in milliseconds.
 */
import { coreFrom } from "../../adapters/core.ts";
import type { FactorSet } from "../../adapters/factors.ts";
import { randomFactors } from "../../adapters/makers.ts";
import type { Stack } from "../../adapters/stack.ts";
import type {
  CoreTrainer,
  Evaluation,
  SettledHyperparameters,
  TrainRequest,
  TrainResult,
} from "../../adapters/training.ts";
import type { TrainBase, TrainData } from "../../server/train/base.ts";
import type { Example } from "../../src/train/model.ts";

const DIGEST = "b".repeat(64);
const BASE: Evaluation = { loss: 2.5, accuracy: 0.25 };
/** Rows longer than this are too long. */
const MAX_TOKENS = 64;

export interface FakeTrainerOptions {
  /** Awaited before each step, from 1. */
  readonly pace?: (step: number) => Promise<void>;
  /** Why the gate refuses what comes out. */
  readonly refuses?: (request: TrainRequest) => string | undefined;
  /** Why a run breaks. */
  readonly fails?: (request: TrainRequest) => string | undefined;
}

export function fakeStack(): Stack {
  return {
    base: DIGEST,
    layers: 2,
    inputs: { attn_in: 16, attn_out: 16, mlp_in: 16, mlp_mid: 32 },
    outputs: {
      q_proj: 16,
      k_proj: 8,
      v_proj: 8,
      o_proj: 16,
      gate_proj: 32,
      up_proj: 32,
      down_proj: 16,
    },
  };
}

export function fakeFactors(rank = 8): FactorSet {
  return randomFactors({ stack: fakeStack(), rank, modules: ["q_proj", "v_proj"], seed: 1 });
}

/** A base whose lines of text become bytes, the second half of which carries loss. */
export function fakeBase(options: FakeTrainerOptions = {}): TrainBase {
  return {
    id: "tiny",
    digest: () => Promise.resolve(DIGEST),
    readData: (bytes, { longRows }) => readLines(bytes, longRows),
    showExample: ({ tokens, weights }) =>
      [...tokens].map((token, i) => {
        const text = String.fromCharCode(token);
        return (weights[i] ?? 0) > 0 ? `[${text}]` : text;
      }).join(""),
    openTrainer: ({ factors = fakeFactors() }) =>
      Promise.resolve({
        trainer: new FakeTrainer(options),
        factors,
        close: () => Promise.resolve(),
      }),
    close: () => Promise.resolve(),
  };
}

function readLines(bytes: Uint8Array, longRows: "refuse" | "truncate"): TrainData {
  const warnings: string[] = [];
  const examples = new TextDecoder().decode(bytes).trim().split("\n").map((text, i): Example => {
    if (text.startsWith("!")) throw new TypeError(`line ${i + 1}: it is broken`);
    let tokens = new TextEncoder().encode(text);
    if (tokens.length > MAX_TOKENS && longRows === "refuse") {
      throw new TypeError(`line ${i + 1}: ${tokens.length} tokens, at most ${MAX_TOKENS} fit`);
    }
    if (tokens.length > MAX_TOKENS) {
      warnings.push(`line ${i + 1}: cut to ${MAX_TOKENS} tokens`);
      tokens = tokens.slice(0, MAX_TOKENS);
    }
    const half = tokens.length >> 1;
    const weights = Float32Array.from(tokens, (_, at) => at < half ? 0 : 1);
    return { tokens: Int32Array.from(tokens), weights, line: i + 1 };
  });
  return { examples, warnings };
}

interface State {
  step: number;
  readonly cores: number[];
  best: Evaluation & { step: number };
}

class FakeTrainer implements CoreTrainer {
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
    onProgress?.({ type: "start", settled, steps, done: state.step, tokensPerEpoch, base: BASE });
    const coreNow = () => coreFrom(factors, rank, Float32Array.from(state.cores));
    const save = () =>
      request.onCheckpoint?.({
        step: state.step,
        bytes: new TextEncoder().encode(JSON.stringify(state)),
        core: coreNow(),
        evaluation: state.best,
      });
    while (state.step < steps) {
      await this.#options.pace?.(state.step + 1);
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
      trainedTokens: tokensPerEpoch * settled.epochs,
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
    tokens: 40 * step,
    tokensPerSecond: 1000,
  });
  if (step % 2 !== 0) return;
  state.best = { loss: loss + 0.05, accuracy: accuracy - 0.05, step };
  onProgress?.({ type: "evaluation", step, evaluation: state.best });
}
