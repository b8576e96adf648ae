/** Tokens to text piece by piece, and stop strings in it. */
import { assert, assertEquals } from "@std/assert";
import { Detokenizer, StopStrings, TokenTexts } from "../../../src/engine/request/output.ts";
import { EOS, SPECIAL } from "../../fakes/tokenizer.ts";
import { seeded, tokenizer } from "../harness.ts";

const texts = new TokenTexts(tokenizer);

/** The text of each push, and what the end brings. */
function decode(ids: readonly number[], skipSpecialTokens = true): string[] {
  const detokenizer = new Detokenizer(texts, { skipSpecialTokens });
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.finish()];
}

Deno.test("text in pieces is the text of the whole, for characters cut anywhere", () => {
  const text = "naïve 日本語 🙂👩‍👩‍👧 \u0000 end Ä\u00A0";
  const bytes = [...new TextEncoder().encode(text)];
  const pieces = decode(bytes);
  assertEquals(pieces.join(""), text);
  for (const piece of pieces) assert(!piece.includes("\uFFFD"), "never half a character");
  assertEquals(decode(tokenizer.encode(text)).join(""), text);
});

Deno.test("random bytes decode as a whole does, invalid ones to U+FFFD", () => {
  const random = seeded(6);
  const leads = [
    0x41,
    0xC3,
    0xA9,
    0xE6,
    0x97,
    0xA5,
    0xF0,
    0x9F,
    0x99,
    0x82,
    0xFF,
    0xC0,
    0xED,
    0xA0,
  ];
  for (let round = 0; round < 500; round++) {
    const ids = Array.from({ length: 12 }, () => leads[Math.floor(random() * leads.length)] ?? 0);
    assertEquals(decode(ids).join(""), tokenizer.decode(ids));
  }
});

Deno.test("an unfinished character shows at the end only", () => {
  assertEquals(decode([0x61, 0xE6, 0x97]), ["a", "", "", "\uFFFD"]);
});

Deno.test("a byte order mark stays", () => {
  assertEquals(decode([0xEF, 0xBB, 0xBF, 0x61]).join(""), "\uFEFFa");
});

Deno.test("special tokens are skipped or spelled", () => {
  const ids = [0x61, SPECIAL, 0x62, EOS];
  assertEquals(decode(ids).join(""), "ab");
  assertEquals(decode(ids, false).join(""), "a<|turn|>b<|end|>");
});

/** Feeds pieces; what came out before the end, and the stop that ended it. */
function feed(stops: readonly string[], pieces: readonly string[]): [string, string | undefined] {
  const finder = new StopStrings(stops);
  let out = "";
  for (const piece of pieces) {
    const safe = finder.push(piece);
    if (typeof safe !== "string") return [out + safe.before, safe.stop];
    out += safe;
  }
  return [out + finder.finish(), undefined];
}

Deno.test("stop strings are found across pieces as in the whole text", () => {
  const random = seeded(2);
  const word = (length: number) =>
    Array.from({ length }, () => "ab"[Math.floor(random() * 2)]).join("");
  for (let round = 0; round < 2000; round++) {
    const stops = Array.from({ length: 1 + round % 3 }, () => word(1 + Math.floor(random() * 5)));
    const pieces = Array.from({ length: 8 }, () => word(Math.floor(random() * 3)));
    const [out, stop] = feed(stops, pieces);
    const whole = pieces.join("");
    if (stop === undefined) {
      assertEquals(out, whole);
      assert(stops.every((each) => !whole.includes(each)));
    } else {
      assert(whole.startsWith(out + stop));
      for (const each of stops) assert(!out.includes(each), `${out} holds ${each}`);
    }
  }
});

Deno.test("no more is held back than may begin a stop string", () => {
  const finder = new StopStrings(["###", "END"]);
  assertEquals(["a#", "#b", "E", "N", "x"].map((piece) => finder.push(piece)), [
    "a",
    "##b",
    "",
    "",
    "ENx",
  ]);
});
