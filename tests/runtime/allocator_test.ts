/** How many arenas glibc makes in a process that was told to keep few. */
import { assert, assertGreater } from "@std/assert";

async function arenas(...args: readonly string[]): Promise<number> {
  const worker = new URL("./allocator_worker.ts", import.meta.url).pathname;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", worker, ...args],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return Number(new TextDecoder().decode(stdout));
}

Deno.test({
  name: "threads share arenas once the allocator was told to keep small",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    assertGreater(await arenas() - await arenas("small"), 2);
  },
});
