/**
 * A whole decoder, differentiated and lowered, against the naive evaluator: what its operations do to
 * one another, in float32 and with linears of 8 bits there and back. Single operations are
 * `training_ops_test.ts`'.
 */
import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { lower, type LoweringPlan } from "../../src/graph/lowering/lowering.ts";
import { gradientsOf } from "./differences.ts";
import { both, cosine, relative } from "./pairs.ts";
import { FLOAT32, RandomParameters } from "./run.ts";
import { decoder, decoderInputs } from "./training_decoder.ts";

/** In uint8: exact on every processor. */
const W8A8: LoweringPlan = {
  ...FLOAT32,
  linear: () => "w8a8",
  gradient: () => "w8a8",
  integers: "uint8",
};

async function decoderGradients(plan: typeof FLOAT32) {
  const made = decoder();
  const wanted = [...made.cores, ...made.factors];
  const gradients = gradientsOf(made.graph, made.nll, made.seeds, wanted);
  const given = decoderInputs(made);
  const pairs = await both(made.graph.finish([made.nll, ...gradients]), given, plan);
  return pairs.map((pair, i) => ({ pair, name: i === 0 ? "nll" : wanted[i - 1].name }));
}

Deno.test("a whole decoder's loss and gradients follow the evaluator in float32", async () => {
  for (const { name, pair } of await decoderGradients(FLOAT32)) {
    // Two layers there and back, the largest error of thousands of numbers: measured 8e-6.
    assertLess(relative(pair), 3e-5, name);
  }
});

Deno.test("lowered for WebGPU, a whole decoder does without the product that it lacks", async () => {
  const webgpu = { ...FLOAT32, device: "webgpu" } as const;
  for (const { name, pair } of await decoderGradients(webgpu)) {
    assertLess(relative(pair), 3e-5, name);
  }
  const { graph, nll, seeds, cores } = decoder();
  const whole = graph.finish(gradientsOf(graph, nll, seeds, cores));
  const products = (plan: LoweringPlan) => {
    const model = lower(whole, new RandomParameters(whole), plan).model();
    return new TextDecoder("latin1").decode(model).split("FusedMatMul").length - 1;
  };
  assertGreater(products(FLOAT32), 10);
  assertEquals(products(webgpu), 0);
});

Deno.test("a whole decoder's gradients keep their direction in 8 bits", async () => {
  for (const { name, pair } of await decoderGradients(W8A8)) {
    // Random weights and four linears a layer: measured 0.9985 and more.
    assertGreater(cosine(pair), 0.995, name);
  }
});
