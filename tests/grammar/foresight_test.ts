/** What matchers foresee, against the masks of the same tokens taken one by one. */
import { assert, assertEquals } from "@std/assert";
import type { TokenMatcher } from "../../src/grammar/matcher.ts";
import { type Grammar, GrammarPool } from "../../src/grammar/pool.ts";
import { EOS, FakeTokenizer } from "../fakes/tokenizer.ts";

const tokenizer = new FakeTokenizer();

async function withMatchers(
  grammar: Grammar,
  foresight: number,
  check: (seeing: TokenMatcher, blind: TokenMatcher) => Promise<void>,
): Promise<void> {
  const options = { tokenizer, vocabSize: tokenizer.vocabSize, stopTokens: [EOS] };
  const pools = [foresight, 0].map((each) => new GrammarPool({ ...options, foresight: each }));
  try {
    const [seeing, blind] = await Promise.all(pools.map((each) => each.matcher(grammar, "ada")));
    await check(seeing, blind);
  } finally {
    for (const each of pools) each.close();
  }
}

function regex(pattern: string): Grammar {
  return { type: "regex", pattern, field: "guided_regex" };
}

function spelled({ foreseen }: TokenMatcher): string {
  return tokenizer.decode(foreseen.map(({ token }) => token));
}

Deno.test("forced text is foreseen in the longest tokens, up to where it branches", async () => {
  await withMatchers(regex("the world (is|was) done"), 20, async (seeing, blind) => {
    assertEquals(spelled(seeing), "the world ");
    assertEquals(seeing.foreseen.map(({ token }) => token), tokenizer.encode("the world "));
    assertEquals(blind.foreseen, []);
    for (const { token, mask } of [...seeing.foreseen]) {
      seeing.accept(token);
      assert(seeing.ready, "known already");
      assertEquals(seeing.mask, mask);
      blind.accept(token);
      await blind.settled();
      assertEquals(seeing.mask, blind.mask);
    }
    assertEquals(spelled(seeing), "");
    for (const byte of tokenizer.encode("w")) seeing.accept(byte);
    await seeing.settled();
    assertEquals(spelled(seeing), "as done", "the end may come there, and is not foreseen");
  });
});

Deno.test("a text that is spelled otherwise than foreseen goes on", async () => {
  await withMatchers(regex("the world is done"), 20, async (seeing, blind) => {
    for (const matcher of [seeing, blind]) {
      for (const byte of new TextEncoder().encode("the wor")) {
        matcher.accept(byte);
        await matcher.settled();
      }
    }
    assertEquals(seeing.mask, blind.mask);
    assertEquals(spelled(seeing), "ld is done");
  });
});

Deno.test("of a text that is forced for ever so many tokens are foreseen", async () => {
  await withMatchers(
    { type: "ebnf", text: 'root ::= "zyx" root | "zyx" "!"', field: "grammar" },
    2,
    (seeing) => {
      assertEquals(spelled(seeing), "zy");
      return Promise.resolve();
    },
  );
});
