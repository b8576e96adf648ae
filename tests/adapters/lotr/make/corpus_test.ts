/** The general text as it ships, and a caller's text cut into examples. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  calibrationExamples,
  corpusDigest,
  generalText,
  PASSAGE_TOKENS,
  passagesOf,
  textExamples,
  thinned,
} from "../../../../adapters/lotr/make/corpus.ts";
import { openCheckpoint } from "../../../../src/checkpoint/open.ts";
import { FakeTokenizer } from "../../../fakes/tokenizer.ts";

const TINY = new URL("../../../fixtures/models/llama", import.meta.url).pathname;
const tokenizer = new FakeTokenizer();

function read(path: string): string {
  return Deno.readTextFileSync(new URL(path, import.meta.url));
}

Deno.test("the general text has at least 64 passages of 40 words or more, all different", () => {
  const passages = passagesOf(generalText());
  assert(passages.length >= 64, `${passages.length} passages`);
  for (const passage of passages) {
    const words = passage.split(/\s+/).length;
    assert(words >= 40 && words <= 100, `${words} words: ${passage.slice(0, 40)}`);
  }
  assertEquals(new Set(passages).size, passages.length);
});

Deno.test("the general text shares no run of eight words with the held-out text", () => {
  const runs = (text: string) => {
    const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
    return words.slice(7).map((_, i) => words.slice(i, i + 8).join(" "));
  };
  const heldOut = new Set(runs(read("../../../fixtures/texts/heldout.txt")));
  assert(heldOut.size > 1000);
  assertEquals(runs(generalText()).filter((run) => heldOut.has(run)), []);
});

Deno.test("empty lines part passages, whatever ends a line", () => {
  assertEquals(passagesOf("one\ntwo\n\nthree\n \t\n\n four \n"), ["one\ntwo", "three", "four"]);
  assertEquals(passagesOf("one\r\ntwo\r\n\r\nthree"), ["one\r\ntwo", "three"]);
});

Deno.test("an example knows its line and carries loss on all tokens but the first", () => {
  const examples = textExamples("Hello there\n\n\nGood morning to all\n", tokenizer);
  assertEquals(examples.map(({ line }) => line), [1, 4]);
  for (const { tokens, weights } of examples) {
    assertEquals([...weights], [...tokens].map((_, i) => i === 0 ? 0 : 1));
  }
  assertEquals(tokenizer.decode([...examples[1].tokens]), "Good morning to all");
});

Deno.test("a long passage is cut, its rest kept unless it is a scrap", () => {
  const lengths = (count: number) =>
    textExamples("~".repeat(count), tokenizer).map(({ tokens }) => tokens.length);
  assertEquals(lengths(PASSAGE_TOKENS), [PASSAGE_TOKENS]);
  assertEquals(lengths(PASSAGE_TOKENS * 2 + 40), [PASSAGE_TOKENS, PASSAGE_TOKENS, 40]);
  assertEquals(lengths(PASSAGE_TOKENS + 31), [PASSAGE_TOKENS]);
});

Deno.test("a text without any prediction is refused", () => {
  for (const text of ["", "\n \n"]) {
    assertThrows(() => textExamples(text, tokenizer), TypeError, "no passage of two tokens");
  }
});

Deno.test("a calibration file may be text or the JSONL of training", async () => {
  using checkpoint = await openCheckpoint(TINY);
  const read = (text: string) => calibrationExamples(new TextEncoder().encode(text), checkpoint);
  const texts = read("{braces} begin this one\n\nand this is another");
  const rows = read('{"prompt": "Name a colour:", "completion": " blue"}\n');
  assertEquals([texts.length, rows.length], [2, 1]);
  assert(rows[0].weights.filter((weight) => weight > 0).length < rows[0].tokens.length - 1);
  assertThrows(() => read('{"prompt": 7}\n'), Error, "line 1");
  assertThrows(() => calibrationExamples(Uint8Array.of(0xff, 0xfe), checkpoint), TypeError);
});

Deno.test("too large a corpus is thinned out evenly, a small one left alone", () => {
  const examples = textExamples(
    Array.from({ length: 50 }, (_, i) => `passage number ${i}`).join("\n\n"),
    tokenizer,
  );
  assertEquals(thinned(examples), examples);
  const tokens = examples.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const some = thinned(examples, tokens / 5);
  assertEquals(some.length, 10);
  assertEquals(some.map((example) => examples.indexOf(example)), [
    0,
    5,
    10,
    15,
    20,
    25,
    30,
    35,
    40,
    45,
  ]);
});

Deno.test("a corpus' digest changes with its tokens and with their weights", () => {
  const [one, other] = ["Hello there", "Hello where"].map((text) => textExamples(text, tokenizer));
  assertEquals(corpusDigest(one), corpusDigest(textExamples("Hello there", tokenizer)));
  assertNotEquals(corpusDigest(one), corpusDigest(other));
  const [first] = one;
  const weights = first.weights.map((weight) => weight * 2);
  assertNotEquals(corpusDigest(one), corpusDigest([{ ...first, weights }]));
});
