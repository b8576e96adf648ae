/**
 * Greedy texts of the tiny checkpoints through the real executor, token by token, against
 * transformers'. No two best logits there are within 1e-3 (`greedy.py`), ten times what sums in another
 * order make of them.
 */
import { assertEquals } from "@std/assert";
import { Expected } from "../models/expected.ts";
import { greedy } from "../engine/greedy.ts";
import { folderOf, Tiny } from "../engine/tiny.ts";

const GREEDY: Readonly<
  Record<string, { readonly prompt: number; readonly tokens: readonly number[] }>
> = JSON.parse(
  Deno.readTextFileSync(new URL("../fixtures/models/greedy.json", import.meta.url)),
);

for (const [name, { prompt, tokens }] of Object.entries(GREEDY)) {
  Deno.test(`${name} says what transformers says, ${tokens.length} tokens long`, async () => {
    using tiny = await Tiny.open(name);
    const ids = new Expected(`${folderOf(name)}expected.safetensors`).integers("ids");
    const row = { prompt: ids.slice(0, prompt) };
    const [spoken] = await greedy(await tiny.base.lane(), [row], tokens.length);
    assertEquals(spoken.tokens, tokens);
  });
}
