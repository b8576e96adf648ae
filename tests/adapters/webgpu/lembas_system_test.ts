/** `Lembas` on a graphics device in software: lanes that come and go, and training, which is refused. */
import { assertEquals, assertGreater } from "@std/assert";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

interface Found {
  readonly said: readonly (readonly number[])[];
  readonly training: string;
  readonly evictions: number;
}

Deno.test({
  ...onWebGpu("lanes leave device memory and come back, and say there what they say on the CPU"),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./lembas_worker.ts", import.meta.url);
    const here = await gpu.run(program, ["cpu"]) as Found;
    const there = await gpu.run(program, ["webgpu"]) as Found;
    assertEquals(there.said, here.said);
    assertGreater(there.evictions, 0);
    assertEquals([here.training, there.training], [
      "trained",
      "Cannot train on webgpu: training runs on the CPU alone for now",
    ]);
  },
});
