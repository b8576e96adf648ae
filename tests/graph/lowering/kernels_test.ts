/** Each kernel of a linear against the formula, and what it promises beyond that. */
import { assertEquals, assertLess } from "@std/assert";
import { type Graph, GraphBuilder, type ParameterSource } from "../../../src/graph/graph.ts";
import { integersOf } from "../../../src/executor/integer_check.ts";
import { lower } from "../../../src/graph/lowering/lowering.ts";
import type { IntegerType, LinearKernel } from "../../../src/graph/lowering/lowering_context.ts";
import { type BlockSource, roundTo4Bits, roundTo8Bits } from "../../../src/graph/quantise.ts";
import type { BlockForm, Blocks, StoredBlocks } from "../../../src/util/blocks.ts";
import { unpack } from "../../unpack.ts";
import { DEVICE } from "../device.ts";
import { distance, FLOAT32, randomArray, RandomParameters, runLowered, runNaive } from "../run.ts";

const INPUTS = 192;
const OUTPUTS = [128, 64];

/** How this processor multiplies exactly. */
const OWN_INTEGERS = await integersOf(DEVICE);

function linearGraph(bias: boolean) {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["tokens", INPUTS]);
  const weights = OUTPUTS.map((out, i) => graph.parameter(`w${i}`, [out, INPUTS]));
  const biases = bias ? OUTPUTS.map((out, i) => graph.parameter(`b${i}`, [out])) : [];
  return graph.finish([graph.add("linear", { x, weights, biases }, "y")]);
}

async function errorOf(
  kernel: LinearKernel,
  tokens: number,
  bias: boolean,
  integers: IntegerType = OWN_INTEGERS,
): Promise<number> {
  const graph = linearGraph(bias);
  const parameters = new RandomParameters(graph);
  const x = { shape: [tokens, INPUTS], data: randomArray(tokens * INPUTS, 3) };
  const plan = { ...FLOAT32, linear: () => kernel, integers };
  const shape = [tokens, OUTPUTS[0] + OUTPUTS[1]];
  const [y] = await runLowered(DEVICE, graph, { x }, parameters, plan, [shape]);
  const [expected] = runNaive(graph, { x }, parameters);
  return distance(y, expected.data) / rms(expected.data);
}

function rms(data: ArrayLike<number>): number {
  return Math.sqrt(Array.from(data).reduce((sum, x) => sum + x * x, 0) / data.length);
}

// Worst error over root mean square: rounding noise of 192 products, of 8 bits both sides, of 4 bits.
const TOLERANCES: Readonly<Record<LinearKernel, number>> = {
  float32: 1e-5,
  "float32-shared": 1e-5,
  w8a8: 0.06,
  nbits8: 0.06,
  nbits4: 0.6,
  stored: 0.06,
};

for (const [kernel, tolerance] of Object.entries(TOLERANCES)) {
  Deno.test(`the ${kernel} linear follows the formula within its precision`, async () => {
    for (const tokens of [1, 5, 33]) {
      for (const bias of [false, true]) {
        assertLess(await errorOf(kernel as LinearKernel, tokens, bias), tolerance);
      }
    }
  });
}

Deno.test("blocks are multiplied as a device does: activations as they are, sums by reduction", async () => {
  for (const device of ["webgpu", "cuda"] as const) {
    for (const [what, forms] of Object.entries(FORMS)) {
      const graph = linearGraph(true);
      const parameters = new StoredParameters(graph, forms);
      const x = { shape: [5, INPUTS], data: randomArray(5 * INPUTS, 3) };
      const plan = { ...FLOAT32, linear: () => "stored" as const, device };
      const [y] = await runLowered(DEVICE, graph, { x }, parameters, plan, [[5, 192]]);
      const rounded = { read: (name: string) => parameters.served(name) };
      const [expected] = runNaive(graph, { x }, rounded);
      assertLess(distance(y, expected.data) / rms(expected.data), 1e-5, `${what} on ${device}`);
    }
  }
});

Deno.test("w8a8 over weights in uint8 follows the formula, and int8's result where that is exact", async () => {
  for (const tokens of [1, 5, 33]) {
    assertLess(await errorOf("w8a8", tokens, true, "uint8"), TOLERANCES.w8a8);
  }
  const graph = linearGraph(false);
  const parameters = new RandomParameters(graph);
  const x = { shape: [4, INPUTS], data: randomArray(4 * INPUTS, 5) };
  const run = async (integers: IntegerType) => {
    const plan = { ...FLOAT32, linear: () => "w8a8" as const, integers };
    return await runLowered(DEVICE, graph, { x }, parameters, plan, [[4, 192]]);
  };
  if (OWN_INTEGERS === "int8") assertEquals(await run("uint8"), await run("int8"));
});

Deno.test("u8 weights of one making are raised once, however many ask for them", async () => {
  const graph = linearGraph(false);
  const plan = { ...FLOAT32, linear: () => "w8a8" as const, integers: "uint8" as const };
  const { weights } = lower(graph, new RandomParameters(graph), plan);
  const [[, { make }]] = [...weights].filter(([name]) => name.endsWith(":w8u"));
  const [first, second] = await Promise.all([make(), make()]);
  const kept = first.slice();
  assertEquals(second, kept);
  assertEquals(await make(), kept);
  assertEquals(first, kept);
});

/** Parameters of which some are stored in blocks; `read` gives what the blocks stand for. */
class StoredParameters implements ParameterSource, BlockSource {
  readonly #stored = new Map<string, { readonly form: BlockForm; readonly made: Blocks }>();
  readonly #others: RandomParameters;

  constructor(graph: Graph, forms: Readonly<Record<string, BlockForm>>) {
    this.#others = new RandomParameters(graph);
    for (const [name, form] of Object.entries(forms)) {
      const round = form.bits === 4 ? roundTo4Bits : roundTo8Bits;
      const made = round(this.#others.read(name), form.size);
      const offsets = form.offsets ? made.offsets ?? made.scales.map((x) => 5 * x) : undefined;
      this.#stored.set(name, { form, made: { ...made, offsets } });
    }
  }

  read(name: string): Float32Array {
    const stored = this.#stored.get(name);
    if (stored === undefined) return this.#others.read(name);
    return Float32Array.from(unpack(stored.form, stored.made));
  }

  /** What is multiplied with: weights that have no blocks of 32 and more are rounded to 8 bits. */
  served(name: string): Float32Array {
    const data = this.read(name);
    const stored = this.#stored.get(name);
    if (name.startsWith("b") || (stored?.form.size ?? 0) >= 32) return data;
    return Float32Array.from(unpack({ bits: 8, size: 64 }, roundTo8Bits(data, 64)));
  }

  blocks(name: string): StoredBlocks | undefined {
    const stored = this.#stored.get(name);
    return stored && { ...stored.form, read: () => stored.made };
  }
}

const FORMS: Readonly<Record<string, Readonly<Record<string, BlockForm>>>> = {
  "4 bits with and without offsets": {
    w0: { bits: 4, size: 32, offsets: true },
    w1: { bits: 4, size: 32, offsets: false },
  },
  "two of one form": {
    w0: { bits: 4, size: 32, offsets: true },
    w1: { bits: 4, size: 32, offsets: true },
  },
  "4 bits beside 8 in blocks of 16, which are rounded": {
    w0: { bits: 4, size: 32, offsets: true },
    w1: { bits: 8, size: 16, offsets: false },
  },
  "8 bits with offsets beside a plain weight": { w1: { bits: 8, size: 32, offsets: true } },
  "blocks of 64": { w0: { bits: 4, size: 64, offsets: true } },
};

for (const [what, forms] of Object.entries(FORMS)) {
  Deno.test(`stored weights are multiplied as they are: ${what}`, async () => {
    for (const tokens of [1, 5, 33]) {
      const graph = linearGraph(true);
      const parameters = new StoredParameters(graph, forms);
      const x = { shape: [tokens, INPUTS], data: randomArray(tokens * INPUTS, 3) };
      const plan = { ...FLOAT32, linear: () => "stored" as const };
      const [y] = await runLowered(DEVICE, graph, { x }, parameters, plan, [[tokens, 192]]);
      const [expected] = runNaive(graph, { x }, parameters);
      // of a weight's offset nothing is rounded, of its steps only the activations
      assertLess(distance(y, expected.data) / rms(expected.data), 0.06);
    }
  });
}

Deno.test("a token's w8a8 result does not depend on the other tokens", async () => {
  const graph = linearGraph(false);
  const parameters = new RandomParameters(graph);
  const data = randomArray(16 * INPUTS, 5);
  const plan = { ...FLOAT32, linear: () => "w8a8" as const };
  const run = (tokens: Float32Array) => {
    const count = tokens.length / INPUTS;
    const x = { shape: [count, INPUTS], data: tokens };
    return runLowered(DEVICE, graph, { x }, parameters, plan, [[count, 192]]);
  };
  const [together] = await run(data);
  for (const token of [0, 7, 15]) {
    const [alone] = await run(data.slice(token * INPUTS, (token + 1) * INPUTS));
    assertEquals(alone, together.slice(token * 192, (token + 1) * 192));
  }
});

Deno.test("a token of zeros stays zero through a w8a8 linear", async () => {
  const graph = linearGraph(false);
  const x = { shape: [2, INPUTS], data: new Float32Array(2 * INPUTS) };
  x.data.set(randomArray(INPUTS, 9));
  const plan = { ...FLOAT32, linear: () => "w8a8" as const };
  const [y] = await runLowered(DEVICE, graph, { x }, new RandomParameters(graph), plan, [[2, 192]]);
  assertEquals(y.slice(192), new Float32Array(192));
});
