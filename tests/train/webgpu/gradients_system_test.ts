/** Training's gradients on a graphics device in software, through the compiled pieces. */
import { assert, assertLess } from "@std/assert";
import { LONG } from "../../long.ts";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

const ALL = [
  ...["llama", "llama-bias", "llama-linear", "llama-llama3", "llama-yarn", "mistral"],
  ...["qwen2", "qwen2-yarn", "qwen3"],
];

for (const name of LONG ? ALL : ["qwen3"]) {
  Deno.test({
    ...onWebGpu(
      `${name} loses and pulls on WebGPU as on the CPU, by cores, A, B and G, and weights`,
    ),
    fn: async () => {
      await using gpu = await SoftwareGpu.unpack();
      const program = new URL("./gradients_worker.ts", import.meta.url);
      const off = await gpu.run(program, [name]) as Readonly<Record<string, number>>;
      assert(Object.keys(off).length >= 31, Object.keys(off).join());
      // measured at most 6e-6
      for (const [what, error] of Object.entries(off)) assertLess(error, 5e-5, what);
    },
  });
}
