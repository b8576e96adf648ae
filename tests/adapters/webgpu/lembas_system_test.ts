/** `Lembas` on a graphics device in software: lanes that come and go, and training. */
import { assertAlmostEquals, assertEquals, assertGreater } from "@std/assert";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

interface Found {
  readonly said: readonly (readonly number[])[];
  /** Losses of what was trained, one a step. */
  readonly training: readonly number[];
  readonly evictions: number;
}

Deno.test({
  ...onWebGpu(
    "lanes leave device memory and come back, say there what they say on the CPU, and train as there",
  ),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./lembas_worker.ts", import.meta.url);
    const here = await gpu.run(program, ["cpu"]) as Found;
    const there = await gpu.run(program, ["webgpu"]) as Found;
    assertEquals(there.said, here.said);
    assertGreater(there.evictions, 0);
    assertEquals(there.training.length, here.training.length);
    assertGreater(here.training[0], here.training.at(-1) ?? 0);
    here.training.forEach((loss, i) => assertAlmostEquals(there.training[i], loss, 1e-3));
  },
});
