/** The parts of the bench of a graphics device, each of which gives figures of one base. */
import { stackOf } from "../../adapters/lotr/stack.ts";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { Base, type BaseOptions } from "../../src/executor/base.ts";
import type { Device } from "../../src/runtime/device.ts";
import { DeviceLock } from "../../src/runtime/device_lock.ts";
import { BaseTrainer } from "../../adapters/training/base_trainer.ts";
import { DEFAULT_HYPERPARAMETERS } from "../../adapters/training/hyperparameters.ts";
import type { Example } from "../../src/train/gradients/model.ts";
import { benchFactors, residentCores } from "../cores.ts";
import { LaneContestant } from "../decode.ts";
import { median, round } from "../stats.ts";
import { CountedDevice } from "./counted_device.ts";

/** How much is done. */
export interface Sizes {
  readonly batches: readonly number[];
  readonly prompts: readonly number[];
  readonly steps: number;
  /** Tokens of each row before it decodes. */
  readonly behind: number;
  readonly rank: number;
  /** Rows of a training micro-batch, and tokens of each. */
  readonly training: readonly [rows: number, tokens: number];
}

export interface DecodeFigure {
  readonly batch: number;
  readonly cores: boolean;
  /** Milliseconds of a step, tokens drawn. */
  readonly ms: number;
  readonly tokensPerSecond: number;
  /** With cores: the base's time over this one's. */
  readonly ofBase?: number;
  /** Bytes to and from the host, and native calls, of a step. */
  readonly up: number;
  readonly down: number;
  readonly calls: number;
}

type BaseChoice = Pick<BaseOptions, "dtype" | "maxBatch" | "maxContext">;

async function openBase(device: Device, checkpoint: Checkpoint, choice: BaseChoice) {
  return await Base.load(device, checkpoint, { ...choice, calibration: [] });
}

/**
 * Decoding at each batch, the base and a different core in every row.
 * @param memory what is taken while all of it is there
 */
export async function decodePhase(
  device: Device,
  checkpoint: Checkpoint,
  dtype: BaseOptions["dtype"],
  { batches, steps, behind, rank }: Sizes,
  tell: (figure: DecodeFigure) => void,
  memory: () => Promise<unknown>,
): Promise<unknown> {
  const counted = new CountedDevice(device);
  const maxBatch = Math.max(...batches);
  const choice = { dtype, maxBatch, maxContext: behind + steps + 8 };
  const base = await openBase(counted.device, checkpoint, choice);
  try {
    const factors = benchFactors(stackOf(await checkpoint.digest(), checkpoint.config), rank);
    const bare = new Map<number, number>();
    for (const hook of [undefined, factors]) {
      const lane = await base.lane(hook);
      const cores = hook === undefined ? [] : residentCores(hook, maxBatch);
      const contestant = new LaneContestant("lembas", lane, (row) => cores[row]);
      for (const batch of batches) {
        using decoding = await contestant.begin(batch, behind);
        const times: number[] = [];
        await decoding.step(behind);
        await decoding.step(behind + 1);
        counted.take();
        for (let step = 2; step < steps; step++) {
          const start = performance.now();
          await decoding.step(behind + step);
          times.push(performance.now() - start);
        }
        const { bytesUp, bytesDown, runs, copies } = counted.take();
        const per = (total: number) => round(total / times.length, 1);
        const ms = median(times);
        const alone = bare.get(batch);
        if (hook === undefined) bare.set(batch, ms);
        tell({
          ...(alone === undefined ? {} : { ofBase: round(alone / ms, 3) }),
          ...{ batch, cores: hook !== undefined, ms: round(ms, 3) },
          tokensPerSecond: round(batch / ms * 1000, 1),
          ...{ up: per(bytesUp), down: per(bytesDown), calls: per(runs + copies) },
        });
      }
      if (hook !== undefined) return await memory();
      await base.drop(lane);
    }
    return undefined;
  } finally {
    base.release();
    await device.trim();
  }
}

export interface PrefillFigure {
  readonly tokens: number;
  readonly ms: number;
  readonly tokensPerSecond: number;
}

/** One prompt of each length: the better of two runs. */
export async function prefillPhase(
  device: Device,
  checkpoint: Checkpoint,
  dtype: BaseOptions["dtype"],
  { prompts }: Sizes,
  tell: (figure: PrefillFigure) => void,
): Promise<void> {
  const maxContext = Math.max(...prompts) + 8;
  const base = await openBase(device, checkpoint, { dtype, maxBatch: 1, maxContext });
  try {
    const contestant = new LaneContestant("lembas", await base.lane());
    for (const tokens of prompts) {
      const ms = Math.min(
        await contestant.prefill(1, tokens),
        await contestant.prefill(1, tokens),
      );
      tell({ tokens, ms: round(ms, 2), tokensPerSecond: round(tokens / ms * 1000, 1) });
    }
  } finally {
    base.release();
    await device.trim();
  }
}

/** Tokens a second of training a core of rank `rank` over three steps, the first apart. */
export async function trainingPhase(
  device: Device,
  checkpoint: Checkpoint,
  dtype: BaseOptions["dtype"],
  { training: [rows, tokens], rank }: Sizes,
): Promise<{ readonly tokensPerSecond: number; readonly losses: readonly number[] }> {
  const base = await openBase(device, checkpoint, { dtype, maxBatch: 1, maxContext: tokens });
  const lock = new DeviceLock();
  const trainer = new BaseTrainer(base.shared, { turn: () => lock.take(0), pieces: "layers" });
  try {
    const { config } = checkpoint;
    const factors = benchFactors(stackOf(await checkpoint.digest(), config), rank);
    const train = Array.from({ length: rows }, (_, row) => example(tokens, row, config.vocabSize));
    const times: number[] = [];
    const losses: number[] = [];
    const counts = { epochs: 4, batchSize: rows, learningRateMultiplier: 1 };
    await trainer.trainer.train({
      ...{ train, valid: train.slice(0, 1), factors },
      hyperparameters: { ...DEFAULT_HYPERPARAMETERS, ...counts, rank },
      onProgress: (progress) => {
        if (progress.type !== "step") return;
        times.push(performance.now());
        losses.push(round(progress.loss, 4));
      },
    });
    const [first = NaN] = times;
    const seconds = (times[2] ?? times.at(-1) ?? NaN) - first;
    const steps = Math.min(2, times.length - 1);
    return { tokensPerSecond: round(steps * rows * tokens / seconds * 1000, 1), losses };
  } finally {
    await trainer.close();
    base.release();
    await device.trim();
  }
}

function example(length: number, row: number, vocabulary: number): Example {
  return {
    tokens: Int32Array.from({ length }, (_, i) => (row * 7919 + i * 104729) % vocabulary),
    weights: new Float32Array(length).fill(1),
    line: row + 1,
  };
}

/**
 * How a device's answers differ from the CPU's, both in fp32 (CUDA's in fp16), each row with a core of
 * its own.
 */
export interface Correctness {
  /** Of tokens that are drawn greedily. */
  readonly tokensAlike: number;
  readonly tokens: number;
  /** The largest difference of the logits of a prompt, over their root mean square. */
  readonly worst: number;
}

export async function correctnessPhase(
  cpu: Device,
  device: Device,
  checkpoint: Checkpoint,
  { rank }: Sizes,
): Promise<Correctness> {
  const [wanted, found] = [
    await speak(cpu, checkpoint, rank),
    await speak(device, checkpoint, rank),
  ];
  const squares = wanted.logits.reduce((sum, x) => sum + x * x, 0) / wanted.logits.length;
  const off = wanted.logits.reduce(
    (most, x, i) => Math.max(most, Math.abs(x - found.logits[i])),
    0,
  );
  return {
    tokensAlike: wanted.tokens.filter((token, i) => token === found.tokens[i]).length,
    tokens: wanted.tokens.length,
    worst: off / Math.sqrt(squares),
  };
}

const [ROWS, LENGTH, SPOKEN] = [4, 24, 8];

async function speak(device: Device, checkpoint: Checkpoint, rank: number) {
  const dtype = device.name === "cuda" ? "fp16" : "fp32";
  const choice = { dtype, maxBatch: ROWS, maxContext: 64 } as const;
  const base = await openBase(device, checkpoint, choice);
  try {
    const factors = benchFactors(stackOf(await checkpoint.digest(), checkpoint.config), rank);
    const lane = await base.lane(factors);
    const cores = residentCores(factors, ROWS);
    const { vocabSize } = checkpoint.config;
    const prompt = (row: number) => [...example(LENGTH, row, vocabSize).tokens];
    cores.forEach((core, slot) => lane.setAdapter(slot, core));
    using scores = device.tensor("float32", [LENGTH, vocabSize]);
    await lane.logitsOf(prompt(0), 0, scores);
    const logits = (scores.data as Float32Array).slice();
    await lane.prefill(
      cores.map((_, slot) => ({ slot, tokens: prompt(slot), past: 0, last: true })),
    );
    const rows = cores.map((_, row) => ({ row, temperature: 0, uniform: 0 }));
    const draw = async () => (await lane.sample(rows)).map(({ token }) => token);
    const tokens = await draw();
    for (let step = 0; step < SPOKEN; step++) {
      await lane.decode(tokens.slice(-ROWS), cores.map(() => LENGTH + step));
      tokens.push(...await draw());
    }
    return { logits, tokens };
  } finally {
    base.release();
    await device.trim();
  }
}
