/** Encoding by sections: the same as at once, for every tokenizer, or not used. */
import { assertEquals, assertStrictEquals } from "@std/assert";
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import { SectionEncoder } from "../../../src/train/data/sections.ts";
import { fixtureJson } from "../../checkpoint/fixtures.ts";
import { tinySource } from "../sources.ts";

const TOKENIZERS = ["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken", "spm"];

/** Odd texts between special tokens. */
function conversation(tokenizer: string): readonly string[] {
  const { texts } = fixtureJson<{ readonly texts: readonly { readonly text: string }[] }>(
    `tokenizers/${tokenizer}.encodings.json`,
  );
  const [begin, end] = tokenizer === "spm" ? ["<s>", "</s>"] : ["<|im_start|>", "<|im_end|>"];
  return texts.map(({ text }, i) =>
    i % 2 === 0 ? `${begin}user\n${text}${end}\n` : `${text}${end}`
  );
}

function encodingBy(tokenizer: Tokenizer, encode: (text: string) => number[]): Tokenizer {
  return {
    vocabSize: tokenizer.vocabSize,
    leastTokens: (text) => tokenizer.leastTokens(text),
    encode,
    decode: (ids) => tokenizer.decode(ids),
    tokenBytes: (id) => tokenizer.tokenBytes(id),
    tokenText: (id) => tokenizer.tokenText(id),
    tokenId: (text) => tokenizer.tokenId(text),
    isSpecial: (id) => tokenizer.isSpecial(id),
  };
}

Deno.test("a text by sections has the tokens that it has at once", () => {
  for (const name of TOKENIZERS) {
    const { tokenizer } = tinySource({ tokenizer: name });
    const turns = conversation(name);
    const encode = new SectionEncoder(tokenizer).sharing(turns.join(""));
    for (let i = 1; i < turns.length; i += 7) {
      const text = turns.slice(0, i).join("");
      assertEquals([...encode(text)], tokenizer.encode(text, { addSpecialTokens: false }), name);
    }
  }
});

Deno.test("each section is encoded once", () => {
  const { tokenizer } = tinySource({ tokenizer: "smollm" });
  const seen: string[] = [];
  const counted = encodingBy(tokenizer, (text) => {
    seen.push(text);
    return tokenizer.encode(text, { addSpecialTokens: false });
  });
  const whole = "<|im_start|>a<|im_end|>b<|im_end|>c";
  const encode = new SectionEncoder(counted).sharing(whole);
  encode("<|im_start|>a<|im_end|>b");
  encode("<|im_start|>a<|im_end|>new");
  assertEquals(seen, [whole, "", "<|im_start|>", "a", "<|im_end|>", "b", "c", "new"]);
});

Deno.test("a tokenizer that looks across special tokens is asked for the whole text", () => {
  const { tokenizer } = tinySource({ tokenizer: "smollm" });
  const encoder = new SectionEncoder(encodingBy(tokenizer, (text) => [text.length]));
  assertStrictEquals(encoder.sharing("a<|im_end|>b"), encoder.plain);
});
