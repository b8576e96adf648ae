/**
 * What a lane of the default base is said to take, against what a process has more of with it: a
 * process of its own, since other tests' memory comes and goes in this one.
 */
import { assert, assertGreater, assertLess } from "@std/assert";
import { LONG } from "../long.ts";

Deno.test({
  name: "a busy lane takes no third more than it is counted as, and no third less",
  ignore: Deno.build.os !== "linux" || !LONG,
  fn: async () => {
    const worker = new URL("../engine/lane_bytes_worker.ts", import.meta.url).pathname;
    const args = ["run", "-A", "--no-check", "--v8-flags=--expose-gc", worker];
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
    assert(success, new TextDecoder().decode(stderr));
    const { counted, taken } = JSON.parse(new TextDecoder().decode(stdout));
    assertGreater(counted, taken * 3 / 4, `${taken} bytes taken`);
    assertLess(counted, taken * 3 / 2, `${taken} bytes taken`);
  },
});
