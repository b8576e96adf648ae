/** The default factor set: made once, found again, and made anew for whatever decides its content. */
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { textExamples } from "../../../../adapters/lotr/make/corpus.ts";
import {
  defaultFactors,
  type DefaultFactorsOptions,
} from "../../../../adapters/lotr/make/default_factors.ts";
import { randomFactors } from "../../../../adapters/lotr/make/makers.ts";
import { openCheckpoint } from "../../../../src/checkpoint/open.ts";
import type { Checkpoint } from "../../../../src/checkpoint/checkpoint.ts";
import { stackOf } from "../../../../adapters/lotr/stack.ts";
import { MODULES } from "../../../../src/models/hook.ts";
import { Gradients, gradientsWithin } from "../../small.ts";

const TINY = new URL("../../../fixtures/models/llama", import.meta.url).pathname;

/** Runs with a checkpoint, an empty cache, and a count of how often gradients were computed. */
async function withCache(
  body: (
    options: DefaultFactorsOptions,
    opened: readonly Gradients[],
    checkpoint: Checkpoint,
  ) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  using checkpoint = await openCheckpoint(TINY);
  const stack = stackOf(await checkpoint.digest(), checkpoint.config);
  const gradients = gradientsWithin(randomFactors({ stack, rank: 4, modules: MODULES }));
  const opened: Gradients[] = [];
  const openSource = () => {
    const source = new Gradients(gradients);
    opened.push(source);
    return source;
  };
  try {
    await body({ checkpoint, openSource, rank: 4, directory }, opened, checkpoint);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("the default set is made once, whoever asks at the same time, and found again", async () => {
  await withCache(async (options, opened) => {
    const sets = await Promise.all([defaultFactors(options), defaultFactors(options)]);
    sets.push(await defaultFactors(options));
    assertEquals(new Set(sets.map(({ digest }) => digest)).size, 1);
    assertEquals(opened.map(({ released }) => released), [1]);
    assert(opened[0].requests[0].examples.length >= 64);
  });
});

Deno.test("another rank, other modules and another text make other sets", async () => {
  await withCache(async (options, opened, { tokenizer }) => {
    const sets = [
      await defaultFactors(options),
      await defaultFactors({ ...options, rank: 3 }),
      await defaultFactors({ ...options, modules: ["q_proj"] }),
      await defaultFactors({ ...options, examples: textExamples("A new text", tokenizer) }),
    ];
    assertEquals(opened.length, sets.length);
    assertEquals(sets.map(({ rank }) => rank), [4, 3, 4, 4]);
    assertNotEquals(sets[0].digest, sets[2].digest);
  });
});

Deno.test("a failure leaves nothing behind: the source is released, the next call makes the set", async () => {
  await withCache(async (options, opened) => {
    const signal = AbortSignal.abort();
    await assertRejects(() => defaultFactors({ ...options, signal }), DOMException, "aborted");
    assertEquals(opened.map(({ released }) => released), [1]);
    await defaultFactors(options);
    assertEquals(opened.length, 2);
  });
});
