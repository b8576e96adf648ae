/** `Lembas` on a graphics device in software: lanes that come and go, and training. */
import { assertAlmostEquals, assertEquals, assertGreater } from "@std/assert";
import { LONG } from "../../long.ts";
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

interface Overlapped {
  readonly said: readonly (readonly (readonly number[])[])[];
  readonly losses: readonly number[];
  readonly wrong: number;
  readonly left: readonly number[];
  readonly evictions: number;
}

Deno.test({
  ...onWebGpu(
    "requests, lanes, cores, a job and another user at once are on WebGPU what they are here",
  ),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./overlap_worker.ts", import.meta.url);
    const rounds = LONG ? "8" : "2";
    const here = await gpu.run(program, ["cpu", rounds]) as Overlapped;
    const there = await gpu.run(program, ["webgpu", rounds]) as Overlapped;
    assertEquals(there.said, here.said);
    assertEquals([there.wrong, ...there.left], [0, 0, 0]);
    assertGreater(there.evictions, 0);
    assertEquals(there.losses.length, here.losses.length);
    here.losses.forEach((loss, i) => assertAlmostEquals(there.losses[i], loss, 1e-3));
  },
});
