/**
 * The graph that serves on the CPU, on a graphics device in software: the same logits, in float32, of
 * rows that each have a core of their own; and over weights in blocks, where the CPU computes in
 * float32 on what their integers stand for. At length all fixture models in float32.
 * Runs have 31 tokens of a row at most: with more, the provider's attention is wrong where subgroups
 * have 4 lanes, as they do here.
 */
import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { LONG } from "../../long.ts";
import { inFloat16, openLavapipe } from "../../programs/lavapipe.ts";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";
import { type Compared, FIXTURES, FLOAT16_TOLERANCE } from "./compare.ts";

// float32 sums in another order; cores move these logits by 4 to 40
const TOLERANCES = { plain: 1e-4, rounded: 2e-4 };

const SHORT = ["mistral"];

/** Of the file's blocks, types of 4 and 8 bits, with offsets and without, side by side. */
const IN_BLOCKS = ["llama.gguf", "file"];
/** Norms of heads, biases, a window. */
const KINDS = ["qwen3", "qwen2-yarn", "mistral"];
const CASES = LONG
  ? [
    ...FIXTURES.map((name) => [name, "fp32"]),
    ...["int8", "int4"].flatMap((dtype) => KINDS.map((name) => [name, dtype])),
    IN_BLOCKS,
  ]
  : [...SHORT.map((name) => [name, "fp32"]), ["qwen3", "int8"], ["qwen2", "int4"], IN_BLOCKS];

for (const [name, dtype] of CASES) {
  Deno.test({
    ...onWebGpu(
      `${name} in ${dtype}: prompts, a chunk and ragged decode with a core a row are the CPU's on WebGPU`,
    ),
    fn: async () => {
      await using gpu = await SoftwareGpu.unpack();
      const program = new URL("./decoder_worker.ts", import.meta.url);
      const { worst, among, moved } = await gpu.run(program, [name, dtype]) as Compared;
      const tolerance = dtype === "fp32" ? TOLERANCES.plain : TOLERANCES.rounded;
      const steps = ["prompts", "a chunk behind others", "decode", "decode of fewer rows"];
      assertEquals(Object.keys(worst), steps);
      for (const [step, off] of Object.entries(worst)) assertLess(off, tolerance, step);
      assertLess(among, tolerance, "a row among others");
      const [, , base, ...rest] = moved;
      assertEquals(base, 0, "the row without a core");
      for (const far of [...moved.slice(0, 2), ...rest]) assertGreater(far, 1);
    },
  });
}

for (const dtype of LONG ? ["fp16", "int8", "int4"] : ["fp16", "int8"]) {
  for (const name of LONG ? FIXTURES : ["qwen3"]) {
    Deno.test({
      ...inFloat16(`${name} in ${dtype}: WebGPU in float16 follows the CPU in float32`),
      fn: async () => {
        await using gpu = await openLavapipe();
        const program = new URL("./decoder_worker.ts", import.meta.url);
        const { worst, moved } = await gpu.run(program, [name, dtype, "float16"]) as Compared;
        const furthest = Math.max(...moved);
        for (const [step, off] of Object.entries(worst)) {
          assertLess(off, FLOAT16_TOLERANCE.webgpu * furthest, step);
        }
      },
    });
  }
}
