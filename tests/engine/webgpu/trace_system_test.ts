/** The engine on a graphics device in software; only at length, a few minutes. */
import { assertGreater, assertGreaterOrEqual } from "@std/assert";
import type { Traced } from "../executor_trace.ts";
import { LONG } from "../../long.ts";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

const STEPS = 2000;

if (LONG) {
  Deno.test({
    ...onWebGpu("traces of the engine on WebGPU: invariants after each run, texts as on the CPU"),
    fn: async () => {
      await using gpu = await SoftwareGpu.unpack();
      const program = new URL("./trace_worker.ts", import.meta.url);
      const [short, roomy] = await gpu.run(program) as Traced[];
      assertGreaterOrEqual(short.steps + roomy.steps, STEPS);
      assertGreater(short.preemptions, 10);
      assertGreater(roomy.prefixHitTokens, 500);
      assertGreater(short.ahead + roomy.ahead, 100);
    },
  });
}
