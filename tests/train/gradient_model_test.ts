/**
 * A decoder's losses and core gradients against PyTorch's, for every model of the family, and what a
 * micro-batch promises: rows that do not depend on their neighbours, trainables that add up.
 */
import { assertAlmostEquals, assertEquals, assertLess, assertRejects } from "@std/assert";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { planOf } from "../../src/executor/base.ts";
import { DeviceWeights } from "../../src/models/device_weights.ts";
import { type ModuleName, MODULES } from "../../src/models/hook.ts";
import { DecoderParameters } from "../../src/models/parameters.ts";
import type { Device } from "../../src/runtime/device.ts";
import { DeviceLock } from "../../src/runtime/device_lock.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { DecoderGradients } from "../../src/train/gradients/gradient_model.ts";
import type { Example, GradientModel, Gradients } from "../../src/train/gradients/model.ts";
import { randomArray } from "../graph/run.ts";
import { Oracle, relativeError, type TinyTrainable, tinyTrainable } from "./oracle.ts";

/** float32 both sides, two layers of sharp random attention there and back. */
const TOLERANCE = 1e-4;

const NAMES = [
  "llama",
  "llama-bias",
  "llama-yarn",
  "mistral",
  "qwen2",
  "qwen3",
  "gemma2",
  "gemma3",
  "granite",
  "olmo2",
  "smollm3",
];
const POSITIONS = 64;

/** A tiny model, open and compiled. */
class Tiny implements Disposable {
  readonly #device: Device;
  readonly #weights: DeviceWeights;
  readonly #checkpoint: Checkpoint;

  private constructor(device: Device, weights: DeviceWeights, checkpoint: Checkpoint) {
    this.#device = device;
    this.#weights = weights;
    this.#checkpoint = checkpoint;
  }

  static async open(name: string): Promise<Tiny> {
    const folder = new URL(`../fixtures/models/${name}/`, import.meta.url).pathname;
    const device = openDevice("cpu");
    return new Tiny(device, new DeviceWeights(device), await openCheckpoint(folder));
  }

  trainable(phase: number): TinyTrainable {
    return tinyTrainable(this.#checkpoint, phase);
  }

  /** The model with A and B of a trainable. */
  compile({ hook }: TinyTrainable, scale = 1): Promise<DecoderGradients> {
    const { config } = this.#checkpoint;
    const lock = new DeviceLock();
    return DecoderGradients.compile({
      config,
      hook,
      scale,
      positions: POSITIONS,
      device: this.#device,
      weights: this.#weights,
      parameters: new DecoderParameters(this.#checkpoint, POSITIONS, { hook }),
      plan: planOf({ dtype: "fp32", maxBatch: 1 }),
      turn: () => lock.take(1),
    });
  }

  [Symbol.dispose](): void {
    this.#weights.release();
    this.#device.release();
    this.#checkpoint.close();
  }
}

function lossesOf({ rows }: Gradients): number[] {
  return rows.map(({ loss }) => loss);
}

for (const name of NAMES) {
  Deno.test(`${name} loses and differentiates its cores as PyTorch does, every linear adapted`, async () => {
    using tiny = await Tiny.open(name);
    const oracle = new Oracle("tiny", name);
    // The fixture's trainables have factors of their own, and a model has one set: one at a time.
    for (const [n, phase] of [0, 100].entries()) {
      const trainable = tiny.trainable(phase);
      const model = await tiny.compile(trainable);
      const { rows } = oracle.batch([]);
      const own = rows.flatMap((row, i) => row.trainable === n ? [{ row, i }] : []);
      const made = await model.gradients({
        rows: own.map(({ row }) => ({ ...row, trainable: 0 })),
        trainables: [{ rank: 4, parameters: trainable.cores }],
      });
      const losses = own.map(({ i }) => oracle.floats("loss")[i]);
      assertLess(relativeError(lossesOf(made), losses), TOLERANCE);
      assertLess(relativeError(made.gradients[0], oracle.floats(`cores.${n}`)), TOLERANCE);
      model.release();
    }
  });
}

/** The cores of some modules. */
function coresOf(cores: ArrayLike<number>, modules: readonly ModuleName[]): Float32Array {
  const places = MODULES.flatMap((module, i) => modules.includes(module) ? [i] : []);
  const layers = cores.length / (MODULES.length * 16);
  return Float32Array.from({ length: layers * places.length * 16 }, (_, i) => {
    const [layer, place] = [Math.floor(i / 16 / places.length), Math.floor(i / 16) % places.length];
    return cores[(layer * MODULES.length + places[place]) * 16 + i % 16];
  });
}

const SUBSETS: readonly (readonly ModuleName[])[] = [
  ["q_proj", "v_proj"],
  ["o_proj"],
  ["k_proj", "down_proj"],
  ["gate_proj"],
];

Deno.test("a set that adapts some linears pulls as one of all of them does, the other cores at 0", async () => {
  for (const name of ["llama", "qwen3"]) {
    using tiny = await Tiny.open(name);
    const all = tiny.trainable(0);
    const whole = await tiny.compile(all);
    const rows = new Oracle("tiny", name).batch([]).rows.map((row) => ({ ...row, trainable: 0 }));
    for (const modules of SUBSETS) {
      const kept = all.cores.map((x, i) =>
        modules.includes(MODULES[Math.floor(i / 16) % MODULES.length]) ? x : 0
      );
      const part = await tiny.compile({ ...all, hook: { ...all.hook, modules, digest: "part" } });
      const of = (parameters: Float32Array) => ({ rows, trainables: [{ rank: 4, parameters }] });
      const wanted = await whole.gradients(of(kept));
      const found = await part.gradients(of(coresOf(kept, modules)));
      assertLess(relativeError(lossesOf(found), lossesOf(wanted)), 1e-6);
      const expected = coresOf(wanted.gradients[0], modules);
      assertLess(relativeError(found.gradients[0], expected), 1e-5, modules.join());
      part.release();
    }
    whole.release();
  }
});

/** Random tokens that all carry loss but the first. */
function example(length: number, seed: number): Example {
  const tokens = Int32Array.from(randomArray(length, seed), (x) => Math.abs(x * 1e4) % 100);
  return { tokens, weights: new Float32Array(length).fill(1), line: seed };
}

const EXAMPLES = [example(9, 1), example(40, 2), example(23, 3), example(23, 4), example(2, 5)];

/** Runs on one llama with factors of phase 0. */
async function onLlama(run: (model: GradientModel, tiny: TinyTrainable) => Promise<void>) {
  using tiny = await Tiny.open("llama");
  const trainable = tiny.trainable(0);
  const model = await tiny.compile(trainable);
  await run(model, trainable);
  model.release();
}

Deno.test("a row loses and pulls the same alone as among longer and shorter neighbours", async () => {
  await onLlama(async (model, { cores }) => {
    const trainables = EXAMPLES.map((_, i) => ({ rank: 4, parameters: cores.map((x) => x * i) }));
    const rows = EXAMPLES.map((example, i) => ({ example, trainable: i }));
    const together = await model.gradients({ rows, trainables });
    for (const [i, example] of EXAMPLES.entries()) {
      const alone = await model.gradients({
        rows: [{ example, trainable: 0 }],
        trainables: [trainables[i]],
      });
      assertLess(relativeError(together.gradients[i], alone.gradients[0]), 1e-5);
      assertLess(Math.abs(together.rows[i].loss / alone.rows[0].loss - 1), 1e-5);
      assertEquals(together.rows[i].hits, alone.rows[0].hits);
    }
  });
});

Deno.test("rows of one trainable add up, and rows of others do not touch it", async () => {
  await onLlama(async (model, { cores }) => {
    const trainables = [1, 2].map((scale) => ({
      rank: 4,
      parameters: cores.map((x) => x * scale),
    }));
    const owners = [0, 1, 0, 0, 1];
    const rows = EXAMPLES.map((example, i) => ({ example, trainable: owners[i] }));
    const { gradients } = await model.gradients({ rows, trainables });
    for (const owner of [0, 1]) {
      const own = rows.filter(({ trainable }) => trainable === owner);
      const apart = await model.gradients({ rows: own, trainables });
      assertLess(relativeError(gradients[owner], apart.gradients[owner]), 1e-5);
      assertEquals(apart.gradients[1 - owner], new Float32Array(cores.length));
    }
  });
});

/** Rows that begin alike: `shared` tokens, then some of their own, which carry loss. */
function alike(shared: number, lengths: readonly number[], seed: number): Example[] {
  const { tokens: head } = example(shared, seed);
  return lengths.map((length, i) => {
    const { tokens: tail } = example(length, seed + 1 + i);
    const tokens = Int32Array.from([...head, ...tail]);
    const weights = Float32Array.from(tokens, (_, at) => at > shared ? 1 : 0);
    return { tokens, weights, line: i + 1 };
  });
}

Deno.test("rows that begin alike lose and pull the same as each alone", async () => {
  for (const name of ["llama", "mistral"]) {
    using tiny = await Tiny.open(name);
    const trainable = tiny.trainable(0);
    const model = await tiny.compile(trainable);
    const trainables = [1, 2].map((scale) => ({
      rank: 4,
      parameters: trainable.cores.map((x) => x * scale),
    }));
    const rows = [
      ...alike(30, [4, 7, 2, 6], 100).map((example) => ({ example, trainable: 0 })),
      ...alike(11, [5, 3, 4], 200).map((example) => ({ example, trainable: 1 })),
    ];
    const together = await model.gradients({ rows, trainables });
    const sums = trainables.map(({ parameters }) => new Float64Array(parameters.length));
    for (const [i, row] of rows.entries()) {
      const alone = await model.gradients({ rows: [row], trainables });
      assertLess(Math.abs(together.rows[i].loss / alone.rows[0].loss - 1), 1e-5);
      assertEquals(together.rows[i].tokens, alone.rows[0].tokens);
      alone.gradients[row.trainable].forEach((x, at) => sums[row.trainable][at] += x);
    }
    sums.forEach((sum, n) => assertLess(relativeError(together.gradients[n], sum), 1e-5));
    model.release();
  }
});

Deno.test("losses without gradients are the very losses with them, and weights only weigh", async () => {
  await onLlama(async (model, { cores }) => {
    const trainables = [{ rank: 4, parameters: cores }];
    const rows = EXAMPLES.map((example) => ({ example, trainable: 0 }));
    const { rows: full, gradients: [whole] } = await model.gradients({ rows, trainables });
    assertEquals(await model.losses({ rows, trainables }), full);
    full.forEach(({ weight, tokens }, i) => {
      const predicted = EXAMPLES[i].tokens.length - 1;
      assertEquals([weight, tokens], [predicted, predicted]);
    });
    const halved = rows.map(({ example }) => ({
      trainable: 0,
      example: { ...example, weights: example.weights.map((w) => w / 2) },
    }));
    const half = await model.gradients({ rows: halved, trainables });
    assertLess(relativeError(half.gradients[0], whole.map((x) => x / 2)), 1e-5);
    half.rows.forEach(({ loss, hits }, i) => {
      assertAlmostEquals(loss, full[i].loss / 2, 1e-3);
      assertEquals(hits, full[i].hits);
    });
  });
});

Deno.test("a token without weight carries no loss, and what follows the last one with weight is moot", async () => {
  await onLlama(async (model, { cores }) => {
    const trainables = [{ rank: 4, parameters: cores }];
    const full = EXAMPLES[1];
    const weights = full.weights.map((_, i) => i > 9 && i < 20 && i !== 15 ? 1 : 0);
    const cut = { ...full, tokens: full.tokens.slice(0, 20), weights: weights.slice(0, 20) };
    const pass = (example: Example) =>
      model.gradients({ rows: [{ example, trainable: 0 }], trainables });
    const [long, short] = [await pass({ ...full, weights }), await pass(cut)];
    assertEquals([long.rows[0].weight, long.rows[0].tokens], [9, 9]);
    assertLess(relativeError(lossesOf(long), lossesOf(short)), 1e-6);
    assertLess(relativeError(long.gradients[0], short.gradients[0]), 1e-5);
  });
});

Deno.test("a core of lower rank is trained in the first rows and columns of the factors", async () => {
  await onLlama(async (model, { cores }) => {
    const matrices = cores.length / 16;
    const low = Float32Array.from({ length: matrices * 4 }, (_, i) => {
      const [m, r, c] = [Math.floor(i / 4), Math.floor(i / 2) % 2, i % 2];
      return cores[m * 16 + r * 4 + c];
    });
    const padded = cores.map((x, i) => i % 4 < 2 && Math.floor(i / 4) % 4 < 2 ? x : 0);
    const rows = [{ example: EXAMPLES[2], trainable: 0 }];
    const small = await model.gradients({ rows, trainables: [{ rank: 2, parameters: low }] });
    const large = await model.gradients({ rows, trainables: [{ rank: 4, parameters: padded }] });
    assertLess(relativeError(lossesOf(small), lossesOf(large)), 1e-6);
    const first = large.gradients[0].filter((_, i) => i % 4 < 2 && Math.floor(i / 4) % 4 < 2);
    assertLess(relativeError(small.gradients[0], first), 1e-6);
  });
});

Deno.test("the scale of the branch counts for the loss and for the gradient", async () => {
  using tiny = await Tiny.open("llama");
  const trainable = tiny.trainable(0);
  const [plain, scaled] = [await tiny.compile(trainable), await tiny.compile(trainable, 0.5)];
  const rows = [{ example: EXAMPLES[2], trainable: 0 }];
  const of = (parameters: Float32Array) => ({ rows, trainables: [{ rank: 4, parameters }] });
  const one = await plain.gradients(of(trainable.cores));
  const half = await scaled.gradients(of(trainable.cores.map((x) => 2 * x)));
  assertLess(relativeError(lossesOf(half), lossesOf(one)), 1e-6);
  assertLess(relativeError(half.gradients[0], one.gradients[0].map((x) => x / 2)), 1e-6);
  plain.release();
  scaled.release();
});

Deno.test("more loss positions than are computed at once give what they give apart", async () => {
  await onLlama(async (model, { cores }) => {
    const trainables = [{ rank: 4, parameters: cores }];
    const long = [1, 2, 3, 4, 5, 6].map((seed) => example(60, 10 + seed));
    const rows = long.map((example) => ({ example, trainable: 0 }));
    const { gradients: [together] } = await model.gradients({ rows, trainables });
    const sum = new Float64Array(together.length);
    for (const row of rows) {
      const { gradients: [alone] } = await model.gradients({ rows: [row], trainables });
      alone.forEach((x, i) => sum[i] += x);
    }
    assertLess(relativeError(together, sum), 1e-5);
  });
});

Deno.test("what cannot be trained on is refused, and a fired signal stops the pass", async () => {
  await onLlama(async (model, { cores }) => {
    const trainables = [{ rank: 4, parameters: cores }];
    await assertRejects(() => model.gradients({ rows: [], trainables }), RangeError);
    const rows = [{ example: EXAMPLES[0], trainable: 0 }];
    const stopped = await assertRejects(
      () => model.gradients({ rows, trainables }, AbortSignal.abort()),
      DOMException,
    );
    assertEquals(stopped.name, "AbortError");
    const again = await model.losses({ rows, trainables });
    assertEquals(again.length, 1);
  });
});
