/**
 * What a long prompt on the default base costs others: memory beyond its keys and values, and the time
 * that a row beside it waits, in tokens. A process of its own, since other tests' memory comes and
 * goes in this one.
 */
import { assert, assertLess } from "@std/assert";
import { LONG } from "../long.ts";

/** Tokens of a chunk beside rows that decode, at most (`Pace`). */
const MOST = 64;

Deno.test({
  name:
    "6,000 tokens take bounded memory beside their keys, and others decode after each short chunk",
  ignore: Deno.build.os !== "linux" || !LONG,
  fn: async () => {
    const worker = new URL("./long_prompt_worker.ts", import.meta.url).pathname;
    const args = ["run", "-A", "--no-check", worker];
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
    assert(success, new TextDecoder().decode(stderr));
    const { most, runs }: { most: number; runs: number[] } = JSON.parse(
      new TextDecoder().decode(stdout),
    );
    assertLess(most, 256 * 2 ** 20);
    assert(runs.filter((tokens) => tokens > 0).length >= 6000 / MOST, `${runs.length} runs`);
    for (const [i, tokens] of runs.entries()) {
      assert(tokens <= MOST && (tokens === 0 || i === 0 || runs[i - 1] === 0), `${runs}`);
    }
  },
});
