/**
 * Decoders in float16 beside float32, on ONNX Runtime's CPU provider, which has kernels for it or casts
 * to float32 around those it lacks: activations, keys, values, cores and weights, over weights as they
 * are and in blocks. And what is float16 in such a graph, and what is not.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { ModelProtoSchema, type ValueInfoProto } from "onnx-buf";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { devicePlan } from "../../src/executor/plan/serving_plan.ts";
import { lower } from "../../src/graph/lowering/lowering.ts";
import { onnxType } from "../../src/graph/lowering/onnx.ts";
import { buildDecoder } from "../../src/models/decoder.ts";
import { MODULES } from "../../src/models/hook.ts";
import { DecoderParameters } from "../../src/models/parameters.ts";
import type { DType } from "../../src/runtime/device.ts";
import { factorsOf, folderOf } from "../engine/tiny.ts";
import { DEVICE } from "../graph/device.ts";
import { LONG } from "../long.ts";
import { compared, FIXTURES, FLOAT16_TOLERANCE } from "./webgpu/compare.ts";

for (const name of FIXTURES) {
  for (const dtype of LONG ? ["fp16", "int8", "int4"] as const : ["fp16"] as const) {
    Deno.test(`${name} in ${dtype}: float16 follows float32`, async () => {
      const served = { name, dtype, activations: "float16" } as const;
      const { worst, moved } = await compared({ device: DEVICE, ...served });
      const furthest = Math.max(...moved);
      for (const [step, off] of Object.entries(worst)) {
        assertLess(off, FLOAT16_TOLERANCE.cpu * furthest, step);
        assertGreater(off, 1e-4 * furthest, `${step}: nothing was rounded to float16`);
      }
    });
  }
}

Deno.test("weights, keys, values and cores are of the activations' type, logits are float32", async () => {
  using checkpoint = await openCheckpoint(folderOf("qwen3"));
  const hook = factorsOf(checkpoint, await checkpoint.digest(), { rank: 4, modules: MODULES });
  const parameters = new DecoderParameters(checkpoint, 16, { hook });
  const graph = buildDecoder(checkpoint.config, 16, { hook });
  for (const activations of ["float32", "float16", "bfloat16"] as const) {
    for (const dtype of ["fp16", "int8", "int4"] as const) {
      const lowered = lower(graph, parameters, devicePlan("webgpu", { dtype }, activations));
      const types = new Set([...lowered.weights.values()].map((weight) => weight.dtype));
      types.delete("uint8");
      assertEquals([...types], [activations], `weights of ${dtype}`);
      const { graph: { input = [], output = [] } = {} } = fromBinary(
        ModelProtoSchema,
        lowered.model(),
      );
      for (const value of [...input, ...output]) {
        const dtype = OTHERS[value.name] ?? activations;
        assertEquals(elementType(value), onnxType(dtype), value.name);
      }
      assertGreater(input.length, Object.keys(OTHERS).length);
    }
  }
});

/** What is neither keys, values nor cores. */
const OTHERS: Readonly<Record<string, DType>> = {
  ...{ ids: "int32", grid: "int64", lengths: "int32", total: "int32", rows: "int32" },
  logits: "float32",
};

function elementType({ type }: ValueInfoProto): number | undefined {
  return type?.value.case === "tensorType" ? type.value.value.elemType : undefined;
}
