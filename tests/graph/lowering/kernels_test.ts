/** Each kernel of a linear against the formula, and what it promises beyond that. */
import { assertEquals, assertLess } from "@std/assert";
import { GraphBuilder } from "../../../src/graph/graph.ts";
import type { LinearKernel } from "../../../src/graph/lowering/lowering_context.ts";
import { DEVICE } from "../device.ts";
import { distance, FLOAT32, randomArray, RandomParameters, runLowered, runNaive } from "../run.ts";

const INPUTS = 192;
const OUTPUTS = [128, 64];

function linearGraph(bias: boolean) {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["tokens", INPUTS]);
  const weights = OUTPUTS.map((out, i) => graph.parameter(`w${i}`, [out, INPUTS]));
  const biases = bias ? OUTPUTS.map((out, i) => graph.parameter(`b${i}`, [out])) : [];
  return graph.finish([graph.add("linear", { x, weights, biases }, "y")]);
}

async function errorOf(kernel: LinearKernel, tokens: number, bias: boolean): Promise<number> {
  const graph = linearGraph(bias);
  const parameters = new RandomParameters(graph);
  const x = { shape: [tokens, INPUTS], data: randomArray(tokens * INPUTS, 3) };
  const plan = { ...FLOAT32, linear: () => kernel };
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
