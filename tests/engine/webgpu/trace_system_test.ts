/** The engine on a graphics device in software; only at length, a minute or two. */
import { assertGreater } from "@std/assert";
import { LONG } from "../../long.ts";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

const REQUESTS = 40;

if (LONG) {
  Deno.test({
    ...onWebGpu("a trace of the engine on WebGPU: invariants after each run, texts as on the CPU"),
    fn: async () => {
      await using gpu = await SoftwareGpu.unpack();
      const program = new URL("./trace_worker.ts", import.meta.url);
      const { steps } = await gpu.run(program, [String(REQUESTS)]) as { steps: number };
      assertGreater(steps, REQUESTS * 7);
    },
  });
}
