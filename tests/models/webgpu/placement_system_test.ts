/**
 * Where the nodes of a step run on WebGPU, in every precision: none of the CPU's, but for the shapes of
 * the grid, which are on the host; and nothing is copied there and back between two nodes.
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { LONG } from "../../long.ts";
import { inFloat16, openLavapipe } from "../../programs/lavapipe.ts";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

interface Placed {
  readonly operators: Readonly<Record<string, readonly string[]>>;
  readonly onCpu: readonly string[];
  readonly count: number;
}

const PROGRAM = new URL("./placement_worker.ts", import.meta.url);
const SHAPE = /^shape\.grid\.\d+$/;

async function placed(gpu: SoftwareGpu, args: readonly string[]): Promise<Placed> {
  return await gpu.run(PROGRAM, args) as Placed;
}

function assertOnDevice({ operators, onCpu, count }: Placed, what: string): void {
  const all = Object.values(operators).flat();
  assertEquals(all.filter((operator) => operator.startsWith("Memcpy")), [], what);
  assertEquals(onCpu.filter((name) => !SHAPE.test(name)), [], what);
  assertEquals(Object.keys(operators).sort(), ["CPUExecutionProvider", "WebGpuExecutionProvider"]);
  assertGreater(count, 100);
}

/** Biases, norms of heads, a window, blocks of each kind. */
const MORE = LONG ? [["qwen3", "int8"], ["mistral", "int4"]] : [];
const FLOAT32 = [["qwen3", "fp32"], ["qwen2", "int4"], ...MORE];
const FLOAT16 = [["qwen2", "fp16"], ["qwen3", "int8"], ...MORE];
const IN_BLOCKS = ["llama.gguf", "file"];

Deno.test({
  ...onWebGpu("no node of a step in float32 runs on the CPU, and none copies there"),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    for (const args of [...FLOAT32, IN_BLOCKS]) {
      assertOnDevice(await placed(gpu, [...args, "float32"]), args.join(" "));
    }
  },
});

Deno.test({
  ...inFloat16("no node of a step in float16 runs on the CPU, and none copies there"),
  fn: async () => {
    await using gpu = await openLavapipe();
    for (const args of [...FLOAT16, IN_BLOCKS]) {
      assertOnDevice(await placed(gpu, [...args, "float16"]), args.join(" "));
    }
  },
});

Deno.test({
  ...onWebGpu("a profile tells kernels that WebGPU lacks, and the copies around them"),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const { operators, onCpu } = await placed(gpu, ["qwen3", "cpu", "float32"]);
    assert(operators.CPUExecutionProvider.includes("Gather"), String(onCpu));
    assert(Object.values(operators).flat().some((operator) => operator.startsWith("Memcpy")));
  },
});
