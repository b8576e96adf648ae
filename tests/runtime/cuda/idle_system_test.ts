/**
 * CUDA's device over libraries that find a GPU and compute nothing: the provider opens, and memory is
 * reserved, written, copied, viewed, read and freed. Where `deno task setup:cuda` was run.
 */
import { assertEquals } from "@std/assert";
import { IdleGpu, onIdleGpu } from "./idle_gpu.ts";

Deno.test(onIdleGpu("cuda's device moves memory over an idle GPU"), async () => {
  await using gpu = await IdleGpu.make();
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", new URL("./idle_worker.ts", import.meta.url).pathname],
    env: gpu.env,
  }).output();
  assertEquals(new TextDecoder().decode(stderr), "");
  assertEquals(JSON.parse(new TextDecoder().decode(stdout)), {
    name: "cuda",
    adapter: "cuda:0 Idle, 16 GiB",
    copied: true,
    viewed: [0, 1, 2, 3, 4, 5, 6, 7],
    left: 0,
  });
});
