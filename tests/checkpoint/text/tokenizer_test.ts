/** Tokenizers from both formats, token by token beside the Rust library. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { RandomAccessFile } from "../../../src/checkpoint/formats/file.ts";
import { readGgufHeader } from "../../../src/checkpoint/formats/gguf.ts";
import { ggufTokenizerJson } from "../../../src/checkpoint/formats/gguf_tokenizer.ts";
import { JsonTokenizer, readTokenizerJson } from "../../../src/checkpoint/text/tokenizer.ts";
import { fixture, fixtureJson, seeded } from "../fixtures.ts";

interface Encodings {
  readonly texts: readonly {
    readonly text: string;
    readonly ids: readonly number[];
    readonly bare: readonly number[];
  }[];
  readonly decoded: readonly {
    readonly ids: readonly number[];
    readonly text: string;
    readonly visible: string;
  }[];
}

const FAMILIES = ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "spm"];

function fromJson(family: string): JsonTokenizer {
  return new JsonTokenizer(readTokenizerJson(fixtureJson(`tokenizers/${family}.json`)));
}

function fromGguf(family: string): JsonTokenizer {
  using file = RandomAccessFile.open(fixture(`tokenizers/${family}.gguf`));
  return new JsonTokenizer(ggufTokenizerJson(readGgufHeader(file)));
}

for (const family of FAMILIES) {
  const sources = [["tokenizer.json", fromJson(family)], ["GGUF", fromGguf(family)]] as const;
  const { texts, decoded } = fixtureJson<Encodings>(`tokenizers/${family}.encodings.json`);

  for (const [source, tokenizer] of sources) {
    Deno.test(`the ${family} tokenizer from ${source} encodes as the Rust library does`, () => {
      for (const { text, ids, bare } of texts) {
        assertEquals(tokenizer.encode(text), [...ids], JSON.stringify(text));
        assertEquals(tokenizer.encode(text, { addSpecialTokens: false }), [...bare]);
      }
    });

    Deno.test(`the ${family} tokenizer from ${source} decodes as the Rust library does`, () => {
      for (const { ids, text, visible } of decoded) {
        assertEquals(tokenizer.decode(ids), text);
        assertEquals(tokenizer.decode(ids, { skipSpecialTokens: true }), visible);
      }
      assertEquals(tokenizer.decode([]), "");
    });
  }
}

Deno.test("the bytes of a text's tokens are the text's bytes", () => {
  const tokenizer = fromJson("smollm");
  const { texts } = fixtureJson<Encodings>("tokenizers/smollm.encodings.json");
  for (const { text } of texts.filter(({ text }) => !text.includes("<|"))) {
    const bytes = tokenizer.encode(text).flatMap((id) => [...tokenizer.tokenBytes(id)]);
    assertEquals(bytes, [...new TextEncoder().encode(text)], text);
  }
});

Deno.test("the bytes of SentencePiece tokens are the text's after its leading space", () => {
  const tokenizer = fromJson("spm");
  const ids = tokenizer.encode("a 🙂\u0001", { addSpecialTokens: false });
  const bytes = ids.flatMap((id) => [...tokenizer.tokenBytes(id)]);
  assertEquals(bytes, [...new TextEncoder().encode(" a 🙂\u0001")]);
  const byteToken = tokenizer.tokenId("<0xF0>");
  assert(byteToken !== undefined);
  assertEquals(tokenizer.tokenBytes(byteToken), Uint8Array.of(0xf0));
});

Deno.test("a special token has a text and no bytes, an added word has both", () => {
  const tokenizer = fromJson("qwen2");
  const end = tokenizer.tokenId("<|im_end|>");
  const think = tokenizer.tokenId("<think>");
  assert(end !== undefined && think !== undefined);
  assert(tokenizer.isSpecial(end) && !tokenizer.isSpecial(think));
  assertEquals(tokenizer.tokenText(end), "<|im_end|>");
  assertEquals(tokenizer.tokenBytes(end), new Uint8Array(0));
  assertEquals(tokenizer.tokenBytes(think), new TextEncoder().encode("<think>"));
  assertEquals(tokenizer.encode("<think><|im_end|>"), [think, end]);
});

Deno.test("an id beyond the vocabulary has no text and no bytes", () => {
  const tokenizer = fromJson("smollm");
  assertEquals(tokenizer.vocabSize, 701);
  assertEquals(tokenizer.tokenText(9999), "");
  assertEquals(tokenizer.tokenBytes(9999), new Uint8Array(0));
  assertEquals(tokenizer.decode([9999]), "");
  assertEquals(tokenizer.tokenId("no such token"), undefined);
});

Deno.test("random texts come back from their tokens", () => {
  const random = seeded(5);
  const tokenizer = fromJson("llama-bpe");
  for (let round = 0; round < 200; round++) {
    const points = Array.from({ length: 30 }, () => {
      const plane = random() < 0.5 ? 0x80 : random() < 0.7 ? 0x3000 : 0x1f700;
      const point = Math.floor(random() * plane);
      return point >= 0xd800 && point < 0xe000 ? 0x20 : point;
    });
    const text = String.fromCodePoint(...points);
    assertEquals(tokenizer.decode(tokenizer.encode(text, { addSpecialTokens: false })), text);
  }
});

Deno.test("tokenizers of other kinds are refused by name", () => {
  const json = fixtureJson<Record<string, unknown>>("tokenizers/smollm.json");
  assertThrows(
    () => readTokenizerJson({ ...json, model: { type: "WordLevel", vocab: [] } }),
    TypeError,
    "WordLevel",
  );
  const ctc = { ...json, decoder: { type: "CTC" } };
  assertThrows(() => new JsonTokenizer(readTokenizerJson(ctc)), TypeError, "CTC");
  const pieces = (model: string, pre: string): Map<string, string | string[]> =>
    new Map<string, string | string[]>([
      ["tokenizer.ggml.model", model],
      ["tokenizer.ggml.pre", pre],
      ["tokenizer.ggml.tokens", ["a"]],
      ["tokenizer.ggml.merges", []],
    ]);
  assertThrows(() => ggufTokenizerJson({ metadata: pieces("rwkv", "") }), TypeError, "'rwkv'");
  assertThrows(
    () => ggufTokenizerJson({ metadata: pieces("gpt2", "viking") }),
    TypeError,
    "'viking'",
  );
});

Deno.test("without token types <s> is a control token of SentencePiece alone", () => {
  const specials = (model: string): string[] => {
    const metadata = new Map<string, string | string[]>([
      ["tokenizer.ggml.model", model],
      ["tokenizer.ggml.tokens", ["<s>", "</s>", "<|im_end|>", "a"]],
      ["tokenizer.ggml.merges", []],
    ]);
    return ggufTokenizerJson({ metadata }).added_tokens.map(({ content }) => content);
  };
  assertEquals(specials("llama"), ["<s>", "</s>", "<|im_end|>"]);
  assertEquals(specials("gpt2"), ["<|im_end|>"]);
});
