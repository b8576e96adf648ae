// deno-lint-ignore-file no-console -- as a program it prints what it measures
/**
 * How much memory training takes at 2,048 tokens: each case in a process of its own, by the most
 * that was ever resident. The file is both the program of that process and what starts it.
 */
import { generalText } from "../../adapters/lotr/make/corpus.ts";
import { DecoderParameters } from "../../src/models/parameters.ts";
import { DeviceLock } from "../../src/runtime/device_lock.ts";
import { lmExample } from "../../src/train/data/dataset.ts";
import { DecoderGradients } from "../../src/train/gradients/gradient_model.ts";
import type { Example } from "../../src/train/gradients/model.ts";
import { round } from "../stats.ts";
import { Trainee } from "./trainee.ts";

const TOKENS = 2048;
const RANK = 32;
const STEPS = 3;

/** Rows of one step, and whether the step is one micro-batch or as many as the trainer likes. */
const CASES = {
  "steps of 16 × 128 tokens by the trainer": { rows: 16, at: "trainer" },
  "micro-batches of 16 × 128 tokens": { rows: 16, at: "model" },
  "micro-batches of 1 × 2048 tokens": { rows: 1, at: "model" },
  "steps of 16 rows of every length from 16 to 128": { rows: 16, at: "ragged" },
} as const;
/** Steps of ragged rows: as many shapes as a real data set brings. */
const RAGGED_STEPS = 24;
type CaseName = keyof typeof CASES;

export interface MemoryFigure {
  readonly case: string;
  /** The process' peak: model, weights, runtime and all. */
  readonly peakGB: number;
  /** What was resident before training, whose weights are made at its start. */
  readonly beforeGB: number;
}

/** Loss is on every token; rank 32. */
export async function measureMemory(
  { model }: { readonly model: string | undefined },
  tell: (line: string) => void,
): Promise<readonly MemoryFigure[]> {
  const figures: MemoryFigure[] = [];
  for (const name of Object.keys(CASES)) {
    const args = ["run", "-A", import.meta.url, name, ...(model === undefined ? [] : [model])];
    const run = new Deno.Command(Deno.execPath(), { args, stderr: "inherit" });
    const { success, stdout } = await run.output();
    if (!success) throw new Error(`Cannot measure memory: the process of ${name} failed`);
    const line = new TextDecoder().decode(stdout).trim().split("\n").at(-1) ?? "";
    const figure = { case: name, ...JSON.parse(line) as Omit<MemoryFigure, "case"> };
    tell(`  ${name}: ${figure.peakGB} GB at most, ${figure.beforeGB} GB before`);
    figures.push(figure);
  }
  return figures;
}

async function main(name: CaseName, model: string | undefined): Promise<void> {
  await using trainee = await Trainee.open({ model, maxContext: TOKENS });
  const { rows: count, at } = CASES[name];
  const length = TOKENS / count;
  const text = trainee.checkpoint.tokenizer.encode(generalText());
  const pieces = (lengths: readonly number[]) =>
    lengths.map((tokens, row) => {
      const from = (row * length) % (text.length - length);
      return lmExample(text.slice(from, from + tokens), 1);
    });
  const rows = pieces(Array.from({ length: count }, () => length));
  const before = Deno.memoryUsage().rss;
  const sampler = new PeakSampler();
  if (at === "trainer") {
    await trainee.steps({ rows, batch: count, epochs: STEPS, rank: RANK });
  } else if (at === "model") {
    await gradients(trainee, rows);
  } else {
    const ragged = pieces(raggedLengths(count * RAGGED_STEPS, length));
    await trainee.steps({ rows: ragged, batch: count, epochs: 1, rank: RANK });
  }
  const gigabytes = (bytes: number) => round(bytes / 1e9, 2);
  console.log(JSON.stringify({
    peakGB: gigabytes(await sampler.peak()),
    beforeGB: gigabytes(before),
  }));
}

/** Lengths from an eighth of the longest up, each as often as the others, in no order. */
function raggedLengths(count: number, longest: number): readonly number[] {
  const least = longest / 8;
  return Array.from({ length: count }, (_, i) => least + (i * 37) % (longest - least + 1));
}

/** All rows as one micro-batch, forward and backward. */
async function gradients(trainee: Trainee, rows: readonly Example[]): Promise<void> {
  const factors = trainee.factors(RANK);
  const { device, weights, plan, smoothing, positions, checkpoint } = trainee.loaded.base.shared;
  const hook = { hook: factors, ...(smoothing === undefined ? {} : { smoothing }) };
  const lock = new DeviceLock();
  const model = await DecoderGradients.compile({
    config: checkpoint.config,
    hook: factors,
    scale: factors.alpha / factors.rank,
    positions,
    device,
    weights,
    plan,
    parameters: new DecoderParameters(checkpoint, positions, hook),
    turn: () => lock.take(0),
  });
  const { layers, modules } = factors;
  const parameters = new Float32Array(layers * modules.length * RANK ** 2);
  const batch = {
    rows: rows.map((example) => ({ example, trainable: 0 })),
    trainables: [{ rank: RANK, parameters }],
  };
  for (let step = 0; step < STEPS; step++) await model.gradients(batch);
  model.release();
}

/** The most memory that was resident: what Linux kept count of, samples elsewhere. */
class PeakSampler {
  #seen = 0;
  readonly #timer = setInterval(() => this.#sample(), 20);

  async peak(): Promise<number> {
    clearInterval(this.#timer);
    this.#sample();
    const status = await Deno.readTextFile("/proc/self/status").catch(() => "");
    const kilobytes = /^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1];
    return kilobytes === undefined ? this.#seen : Number(kilobytes) * 1024;
  }

  #sample(): void {
    this.#seen = Math.max(this.#seen, Deno.memoryUsage().rss);
  }
}

if (import.meta.main) {
  const [name, model] = Deno.args;
  if (!Object.hasOwn(CASES, name)) {
    throw new TypeError(`Cannot measure memory: case is ${name}, must be one of its own`);
  }
  await main(name as CaseName, model);
}
