/** Where a chat ends: every place that names an end of turn counts. */

import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { fixture, withDirectory } from "../fixtures.ts";
import { type GgufPatch, patchedGguf } from "../gguf_patch.ts";

const ENDOFTEXT = 0;
const IM_START = 1;
const IM_END = 2;
const NORMAL = 1;

async function withGguf(patch: GgufPatch, body: (opened: Checkpoint) => void | Promise<void>) {
  await withDirectory(async (directory) => {
    await Deno.writeFile(`${directory}/model.gguf`, patchedGguf("llama.gguf", patch));
    using checkpoint = await openCheckpoint(directory, { cache: `${directory}/cache` });
    await body(checkpoint);
  });
}

async function withModel(
  files: Readonly<Record<string, unknown>>,
  body: (opened: Checkpoint) => void | Promise<void>,
) {
  await withDirectory(async (directory) => {
    for (const { name } of Deno.readDirSync(fixture("qwen3"))) {
      await Deno.copyFile(`${fixture("qwen3")}/${name}`, `${directory}/${name}`);
    }
    for (const [name, change] of Object.entries(files)) {
      const path = `${directory}/${name}`;
      const json = JSON.parse(await Deno.readTextFile(path));
      await Deno.writeTextFile(path, JSON.stringify({ ...json, ...Object(change) }));
    }
    using checkpoint = await openCheckpoint(directory, { cache: `${directory}/cache` });
    await body(checkpoint);
  });
}

Deno.test("a GGUF whose eos is another token ends a turn at <|im_end|> all the same", async () => {
  const patch = { set: { "tokenizer.ggml.eos_token_id": ENDOFTEXT } };
  await withGguf(patch, ({ config, warnings }) => {
    assertEquals(config.eosTokenIds, [ENDOFTEXT, IM_END]);
    assertEquals(warnings, [
      "a turn ends at <|im_end|> (2), as the token's text says, and not only at " +
      "<|endoftext|> (0), which the metadata names",
    ]);
  });
});

Deno.test("a GGUF that names its end of turn ends at the end of text too, without a word", async () => {
  await withGguf({}, ({ config, warnings }) => {
    assertEquals(config.eosTokenIds, [IM_END, ENDOFTEXT]);
    assertEquals(warnings, []);
  });
});

Deno.test("a GGUF without an eos ends where the texts of its tokens say", async () => {
  await withGguf({ hide: ["tokenizer.ggml.eos_token_id"] }, ({ config, warnings }) => {
    assertEquals(config.eosTokenIds, [IM_END, ENDOFTEXT]);
    assertMatch(warnings.join("\n"), /<\|im_end\|> \(2\).*not only at nothing/);
  });
});

Deno.test("an end token beyond the vocabulary is ignored with a warning", async () => {
  const patch = { set: { "tokenizer.ggml.eos_token_id": 4000 } };
  await withGguf(patch, ({ config, warnings }) => {
    assertEquals(config.eosTokenIds, [IM_END, ENDOFTEXT]);
    assertEquals(warnings[0], "the end token 4000 is ignored: the vocabulary has 701 tokens");
  });
});

Deno.test("a GGUF without token types knows its control tokens by their texts, and says so", async () => {
  await withGguf({ hide: ["tokenizer.ggml.token_type"] }, ({ config, tokenizer, warnings }) => {
    const text = "<|im_start|>user\nHi<|im_end|>";
    const ids = tokenizer.encode(text);
    assertEquals([ids[0], ids.at(-1)], [IM_START, IM_END]);
    assertEquals(tokenizer.decode(ids, { skipSpecialTokens: true }), "user\nHi");
    assertEquals(config.eosTokenIds, [IM_END, ENDOFTEXT]);
    assertEquals(warnings, [
      "the GGUF has no tokenizer.ggml.token_type: by their texts 3 tokens are taken as control " +
      "tokens (<|endoftext|> <|im_start|> <|im_end|>)",
    ]);
  });
});

Deno.test("an end of turn of another type is a control token, with a warning", async () => {
  await withGguf({ types: { [IM_END]: NORMAL } }, ({ tokenizer, warnings }) => {
    assertEquals(tokenizer.encode("<|im_end|>"), [IM_END]);
    assertEquals(tokenizer.isSpecial(IM_END), true);
    assertEquals(warnings, [
      "'<|im_end|>' is no control token by tokenizer.ggml.token_type: it is taken as one",
    ]);
  });
});

Deno.test("a GGUF that does not name its split warns that it is GPT-2's", async () => {
  await withGguf({ hide: ["tokenizer.ggml.pre"] }, ({ warnings }) => {
    assertEquals(warnings.length, 1);
    assertMatch(warnings[0] ?? "", /no tokenizer\.ggml\.pre: text is split as GPT-2/);
  });
});

Deno.test("config, generation_config and tokenizer_config all end a chat", async () => {
  const files = {
    "config.json": { eos_token_id: 5 },
    "generation_config.json": { eos_token_id: [7, 9] },
    "tokenizer_config.json": { eos_token: "<|im_end|>" },
  };
  await withModel(files, ({ config }) => assertEquals(config.eosTokenIds, [5, 7, 9, IM_END]));
});

Deno.test("an eos_token that the vocabulary lacks is told of", async () => {
  const files = { "tokenizer_config.json": { eos_token: "<stop>" } };
  await withModel(files, ({ config, warnings }) => {
    assertEquals(config.eosTokenIds, [2, 0]);
    assertEquals(warnings, [
      "the eos_token '<stop>' is not in the vocabulary",
    ]);
  });
});

Deno.test("what else ends a turn makes no other base: cores fit on", async () => {
  const digests: string[] = [];
  for (const eos of ["<|im_end|>", "<think>"]) {
    const files = { "tokenizer_config.json": { eos_token: eos } };
    await withModel(files, async (checkpoint) => void digests.push(await checkpoint.digest()));
  }
  assertEquals(digests[0], digests[1]);
  await withModel({ "config.json": { eos_token_id: 5 } }, async (checkpoint) => {
    assertNotEquals(await checkpoint.digest(), digests[0]);
  });
});
