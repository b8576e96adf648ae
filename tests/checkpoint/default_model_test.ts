// deno-lint-ignore-file no-console -- the first run of this test fetches the model

/** The default model, fetched for real: its weights, tokens and chats beside Python's. */

import { assert, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import type { ChatMessage } from "../../src/checkpoint/checkpoint.ts";
import { huggingFaceName } from "../../src/checkpoint/formats/gguf_weights.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { fixtureJson } from "./fixtures.ts";

interface DefaultModel {
  /** SHA-256 of the float32 values, by GGUF name, rows in Hugging Face's order. */
  readonly weights: Readonly<Record<string, string>>;
  readonly chats: readonly {
    readonly messages: readonly ChatMessage[];
    readonly addGenerationPrompt: boolean;
    readonly text: string;
  }[];
  readonly texts: readonly { readonly text: string; readonly ids: readonly number[] }[];
  readonly decoded: readonly { readonly ids: readonly number[]; readonly text: string }[];
}

Deno.test("the default model's weights, tokens and chats are what Python makes of them", async () => {
  const path = await resolveModel(undefined, {
    progress: (label, done) => done === 0 && console.error(label),
  });
  assertEquals(await resolveModel(undefined), path);
  using checkpoint = await openCheckpoint(path);
  const { weights, chats, texts, decoded } = fixtureJson<DefaultModel>("default_model.json");
  for (const [name, wanted] of Object.entries(weights)) {
    const values = checkpoint.weights.read(huggingFaceName(name, checkpoint.config.norms) ?? name);
    const bytes = new Uint8Array(values.buffer);
    assertEquals(createHash("sha256").update(bytes).digest("hex"), wanted, name);
  }
  for (const { text, ids } of texts) {
    assertEquals(checkpoint.tokenizer.encode(text), [...ids], JSON.stringify(text));
  }
  for (const { ids, text } of decoded) assertEquals(checkpoint.tokenizer.decode(ids), text);
  for (const { messages, addGenerationPrompt, text } of chats) {
    assertEquals(checkpoint.chatTemplate?.render(messages, { addGenerationPrompt }), text);
  }
  assertEquals(checkpoint.id, "SmolLM2-135M-Instruct");
  assertEquals(checkpoint.config.eosTokenIds, [2, 0]);
  assertEquals(checkpoint.warnings, []);
  assertEquals(checkpoint.weights.names().length, 272);
  const digest = await checkpoint.digest();
  assert(/^[0-9a-f]{64}$/.test(digest));
  assertEquals(await checkpoint.digest(), digest);
});

Deno.test("no text has fewer tokens of the default model than are said before it is encoded", async () => {
  using checkpoint = await openCheckpoint(await resolveModel(undefined));
  const { tokenizer } = checkpoint;
  // half of these have bytes that the vocabulary lacks, which are dropped
  const parts = [
    "a",
    " ",
    "the lichen",
    "\u0004",
    "\u001d",
    "\u{50000}",
    "\u{9abcd}",
    "\u00e9",
    "東京",
    "🥖",
  ];
  for (const one of parts) {
    for (const other of parts) {
      const text = `${one.repeat(60)}${other}`.repeat(3);
      const count = tokenizer.encode(text, { addSpecialTokens: false }).length;
      assert(count >= tokenizer.leastTokens(text), JSON.stringify(text));
    }
  }
  const { maxPositions } = checkpoint.config;
  for (const letter of ["a", " ", "é"]) {
    const bytes = new TextEncoder().encode(letter).length;
    assert(tokenizer.leastTokens(letter.repeat(2 ** 23 / bytes)) > maxPositions, letter);
  }
});
