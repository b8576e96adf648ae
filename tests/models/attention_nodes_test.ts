/**
 * What attention asks of a device's kernel: nothing that ONNX Runtime's WebGPU provider ignores without
 * a word (soft caps), so that a new model's need for it is met here first.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { assertEquals, assertGreater } from "@std/assert";
import { ModelProtoSchema } from "onnx-buf";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { devicePlan } from "../../src/executor/plan/serving_plan.ts";
import { lower } from "../../src/graph/lowering/lowering.ts";
import { buildDecoder } from "../../src/models/decoder.ts";
import { DecoderParameters } from "../../src/models/parameters.ts";
import { FIXTURES, pathOf } from "./webgpu/compare.ts";

/** Attributes that both devices' kernels compute; and keys, values, counts and rotation as inputs. */
const COMPUTED = ["do_rotary", "kv_num_heads", "local_window_size", "num_heads", "scale"];
const INPUTS = 9;

Deno.test("attention uses what the kernels of WebGPU and CUDA compute, and nothing else", async () => {
  for (const name of FIXTURES) {
    using checkpoint = await openCheckpoint(pathOf(name));
    const { config } = checkpoint;
    const parameters = new DecoderParameters(checkpoint, 32);
    for (const device of ["webgpu", "cuda"] as const) {
      const plan = devicePlan(device, { dtype: "fp16" }, "float16");
      const { graph } = fromBinary(
        ModelProtoSchema,
        lower(buildDecoder(config, 32), parameters, plan).model(),
      );
      const attention = graph?.node.filter(({ opType }) => opType.includes("Attention")) ?? [];
      assertEquals(attention.length, config.numLayers);
      for (const { attribute, input } of attention) {
        const others = attribute.filter((one) => !COMPUTED.includes(one.name));
        assertEquals([others, input.length], [[], INPUTS], `${name} on ${device}`);
        assertGreater(attribute.length, 3);
      }
    }
  }
});
