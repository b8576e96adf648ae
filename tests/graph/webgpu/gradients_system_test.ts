/** Training's graphs on a graphics device in software. */
import { assertEquals, assertLess } from "@std/assert";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

Deno.test({
  ...onWebGpu("a whole decoder's loss and gradients follow the evaluator on WebGPU"),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./gradients_worker.ts", import.meta.url);
    const off = await gpu.run(program) as Readonly<Record<string, number>>;
    assertEquals(Object.keys(off).length, 10);
    // as on the CPU: measured 8e-6
    for (const [name, error] of Object.entries(off)) assertLess(error, 3e-5, name);
  },
});
