/**
 * Added tokens, and what is done to the text between them, beside the Rust library: 1,008 random
 * texts over 12 settings. `tests/fixtures/checkpoint/added/make.py` made them.
 */

import { assertEquals } from "@std/assert";
import { JsonTokenizer, readTokenizerJson } from "../../../src/checkpoint/text/tokenizer.ts";
import { fixtureJson } from "../fixtures.ts";

interface Setting {
  readonly name: string;
  readonly base: string;
  readonly change: Readonly<Record<string, unknown>>;
  readonly cases: readonly (readonly [text: string, ids: readonly number[]])[];
}

for (const { name, base, change, cases } of fixtureJson<Setting[]>("added/settings.json")) {
  Deno.test(`added tokens are cut out as the Rust library does: ${name}`, () => {
    const whole = fixtureJson<Record<string, unknown>>(`tokenizers/${base}.json`);
    const tokenizer = new JsonTokenizer(readTokenizerJson({ ...whole, ...change }));
    const wrong = cases.filter(([text, ids]) => tokenizer.encode(text).join() !== ids.join());
    const shown = wrong.slice(0, 5).map(([text, ids]) => ({
      text,
      ids,
      ours: tokenizer.encode(text),
    }));
    assertEquals(shown, [], `${wrong.length} of ${cases.length}`);
  });
}
