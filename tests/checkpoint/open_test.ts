/** Whole checkpoints on disk, beside what Python read of the same models. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { createHash } from "node:crypto";
import type { DecoderConfig } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { ropeFrequencies } from "../../src/checkpoint/rope.ts";
import { unscaled } from "../../src/checkpoint/rope_config.ts";
import { parseSafetensors, writeSafetensors } from "../../src/checkpoint/formats/safetensors.ts";
import { shardNames } from "../../src/checkpoint/formats/safetensors_weights.ts";
import { fixture, fixtureJson, withDirectory } from "./fixtures.ts";

interface GgufExpected {
  readonly type: string;
  readonly values: string;
  readonly raw: string;
}
type Expected = Readonly<Record<string, Readonly<Record<string, string | GgufExpected>>>>;

const EXPECTED = fixtureJson<Expected>("checkpoints.json");

function sha(array: Uint8Array | Float32Array): string {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return createHash("sha256").update(bytes).digest("hex");
}

async function copyDirectory(name: string, into: string): Promise<void> {
  for (const { name: file } of Deno.readDirSync(fixture(name))) {
    await Deno.copyFile(`${fixture(name)}/${file}`, `${into}/${file}`);
  }
}

async function editJson(path: string, change: Record<string, unknown>): Promise<void> {
  const json = JSON.parse(await Deno.readTextFile(path));
  await Deno.writeTextFile(path, JSON.stringify({ ...json, ...change }));
}

for (const [name, tensors] of Object.entries(EXPECTED)) {
  Deno.test(`every weight of ${name} is what Python reads`, async () => {
    using checkpoint = await openCheckpoint(fixture(name));
    const { weights } = checkpoint;
    const names = weights.names().filter((weight) =>
      !weight.startsWith("lm_head") || weight in tensors
    );
    assertEquals(names.toSorted(), Object.keys(tensors).sort());
    for (const [weight, wanted] of Object.entries(tensors)) {
      const values = sha(weights.read(weight));
      if (typeof wanted === "string") assertEquals(values, wanted, weight);
      else {
        assertEquals(weights.info(weight).type, wanted.type);
        assertEquals(values, wanted.values, weight);
        assertEquals(sha(weights.readRaw(weight)), wanted.raw, weight);
      }
    }
    assertThrows(() => weights.read("no.such.weight"), RangeError, "no.such.weight");
  });

  Deno.test(`rows of ${name} are those of the whole tensors`, async () => {
    using checkpoint = await openCheckpoint(fixture(name));
    const { weights } = checkpoint;
    for (const weight of Object.keys(tensors)) {
      const [whole, raw] = [weights.read(weight), weights.readRaw(weight)];
      const count = weights.info(weight).shape[0];
      const [width, bytes] = [whole.length / count, raw.length / count];
      const rows = { first: Math.floor(count / 3), count: Math.floor(count / 2) };
      const [start, end] = [rows.first, rows.first + rows.count];
      const part = whole.subarray(start * width, end * width);
      assertEquals(weights.read(weight, { rows }), part, weight);
      const into = new Float32Array(part.length).fill(NaN);
      assertStrictEquals(weights.read(weight, { rows, into }), into);
      assertEquals(into, part, weight);
      assertEquals(weights.readRaw(weight, rows), raw.subarray(start * bytes, end * bytes), weight);
      for (const wrong of [{ first: 1, count }, { first: -1, count: 1 }, { first: 0, count: 0 }]) {
        assertThrows(() => weights.read(weight, { rows: wrong }), RangeError, weight);
      }
      const short = new Float32Array(part.length - 1);
      assertThrows(() => weights.read(weight, { rows, into: short }), RangeError);
    }
  });
}

Deno.test("configs are read from GGUF metadata and from config.json alike", async () => {
  const common: Partial<DecoderConfig> = {
    vocabSize: 701,
    hiddenSize: 64,
    intermediateSize: 96,
    numLayers: 2,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 16,
    maxPositions: 512,
    outputBias: false,
    bosTokenId: 0,
    layers: [{ rope: 0, window: undefined }],
  };
  const yarn = {
    type: "yarn",
    factor: 4,
    originalMaxPositions: 128,
    betaFast: 32,
    betaSlow: 1,
    attentionFactor: 0.1 * Math.log(4) + 1,
    truncate: true,
  } as const;
  const wanted: Readonly<Record<string, Partial<DecoderConfig>>> = {
    "llama.gguf": { architecture: "llama", tieEmbeddings: true },
    "qwen2.gguf": {
      architecture: "qwen2",
      ropes: [{ ...unscaled(1e6, 16), scaling: yarn }],
      qkvBias: true,
    },
    "qwen3": { architecture: "qwen3", headDim: 32, qkNorm: "heads", eosTokenIds: [2, 0] },
    "mistral": {
      architecture: "mistral",
      layers: [{ rope: 0, window: 128 }],
      tieEmbeddings: false,
    },
  };
  for (const [name, own] of Object.entries(wanted)) {
    using checkpoint = await openCheckpoint(fixture(name));
    const { config } = checkpoint;
    const picked = Object.fromEntries(
      Object.entries(config).filter(([key]) => key in common || key in own),
    );
    assertEquals(picked, { ...common, ...own } as Record<string, unknown>, name);
    assertEquals(checkpoint.id, name.replace(".gguf", ""));
  }
});

Deno.test("a GGUF's frequency factors turn as the Llama 3 scaling they were made from", async () => {
  using checkpoint = await openCheckpoint(fixture("llama.gguf"));
  const [rope] = checkpoint.config.ropes;
  assertEquals([rope.theta, rope.scaling.type], [10_000, "factors"]);
  const wanted = ropeFrequencies({
    ...rope,
    scaling: {
      type: "llama3",
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositions: 64,
    },
  });
  ropeFrequencies(rope).forEach((frequency, i) =>
    assert(Math.abs(frequency / (wanted[i] ?? 0) - 1) < 1e-6, `plane ${i}`)
  );
});

Deno.test("each checkpoint brings its tokenizer and its chat template", async () => {
  const messages = [{ role: "user", content: "Hi" }];
  using llama = await openCheckpoint(fixture("llama.gguf"));
  const text = llama.chatTemplate?.render(messages, { addGenerationPrompt: true }) ?? "";
  assertEquals(llama.tokenizer.decode(llama.tokenizer.encode(text)), text);
  assert(text.endsWith("<|im_start|>assistant\n"));
  using qwen3 = await openCheckpoint(fixture("qwen3"));
  assertEquals(qwen3.chatTemplate?.render(messages), "[1/1 last] USER: Hi\n");
  using mistral = await openCheckpoint(fixture("mistral"));
  assertEquals(mistral.chatTemplate, undefined);
});

Deno.test("a chat_template.jinja file wins over tokenizer_config.json", async () => {
  await withDirectory(async (directory) => {
    await copyDirectory("qwen3", directory);
    await Deno.writeTextFile(`${directory}/chat_template.jinja`, "{{ eos_token }}!");
    using checkpoint = await openCheckpoint(directory);
    assertEquals(checkpoint.chatTemplate?.render([]), "<|im_end|>!");
  });
});

Deno.test("a digest changes with the weights and the config, not with the place", async () => {
  await withDirectory(async (directory) => {
    const model = `${directory}/model`;
    await Deno.mkdir(model);
    const digestOf = async (path: string, cache: string): Promise<string> => {
      using checkpoint = await openCheckpoint(path, { cache: `${directory}/${cache}` });
      return await checkpoint.digest();
    };
    const digest = await digestOf(fixture("mistral"), "a");
    assertMatch(digest, /^[0-9a-f]{64}$/);
    await copyDirectory("mistral", model);
    assertEquals(await digestOf(model, "b"), digest);
    await editJson(`${model}/config.json`, { rms_norm_eps: 1e-6 });
    const other = await digestOf(model, "c");
    assert(other !== digest);
    const bytes = await Deno.readFile(`${model}/model.safetensors`);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    await Deno.writeFile(`${model}/model.safetensors`, bytes);
    assert(![digest, other].includes(await digestOf(model, "d")));
  });
});

Deno.test("a digest is remembered by the file's path, size and time", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/tiny.gguf`;
    await Deno.copyFile(fixture("llama.gguf"), path);
    const digestOf = async (): Promise<string> => {
      using checkpoint = await openCheckpoint(path, { cache: `${directory}/cache` });
      return await checkpoint.digest();
    };
    const digest = await digestOf();
    const [entry] = Array.from(Deno.readDirSync(`${directory}/cache/digests`), ({ name }) => name);
    const memory = `${directory}/cache/digests/${entry}`;
    assertEquals(await Deno.readTextFile(memory), digest);
    await Deno.writeTextFile(memory, "0".repeat(64));
    assertEquals(await digestOf(), "0".repeat(64));
    await Deno.writeTextFile(memory, "garbled");
    assertEquals(await digestOf(), digest);
    await Deno.writeTextFile(memory, "0".repeat(64));
    await Deno.utime(path, 1, 1);
    assertEquals(await digestOf(), digest);
  });
});

Deno.test("a directory with one GGUF opens it, one with two or none is refused", async () => {
  await withDirectory(async (directory) => {
    await assertRejects(() => openCheckpoint(directory), TypeError, "0 .gguf files");
    await Deno.copyFile(fixture("llama.gguf"), `${directory}/Tiny-Llama.Q4_K_M.gguf`);
    using checkpoint = await openCheckpoint(directory);
    assertEquals(checkpoint.id, "Tiny-Llama");
    await Deno.copyFile(fixture("llama.gguf"), `${directory}/two.gguf`);
    await assertRejects(() => openCheckpoint(directory), TypeError, "2 .gguf files");
  });
  await assertRejects(() => openCheckpoint("/no/such/model"), Deno.errors.NotFound);
});

Deno.test("weights that do not fit the config are refused by name", async () => {
  await withDirectory(async (directory) => {
    await copyDirectory("mistral", directory);
    const path = `${directory}/model.safetensors`;
    const { tensors } = parseSafetensors(await Deno.readFile(path));
    const save = (change: (copy: Map<string, typeof norm>) => void): void => {
      const copy = new Map(tensors);
      change(copy);
      Deno.writeFileSync(path, writeSafetensors(copy));
    };
    const norm = tensors.get("model.norm.weight");
    assert(norm !== undefined);
    save((copy) => copy.delete("model.layers.1.mlp.up_proj.weight"));
    await assertRejects(() => openCheckpoint(directory), TypeError, "layers.1.mlp.up_proj.weight");
    save((copy) => copy.set("model.norm.weight", { ...norm, shape: [2, 32] }));
    await assertRejects(() => openCheckpoint(directory), TypeError, "[2,32]");
    save((copy) => copy.set("model.layers.0.self_attn.q_proj.bias", norm));
    await assertRejects(() => openCheckpoint(directory), TypeError, "q_proj.bias");
    save((copy) => copy.set("model.layers.0.self_attn.rotary_emb.inv_freq", norm));
    (await openCheckpoint(directory)).close();
    const config = `${directory}/config.json`;
    await editJson(config, { num_hidden_layers: 4_000_000_000 });
    await assertRejects(() => openCheckpoint(directory), TypeError, "4000000000 layers");
    await editJson(config, { num_hidden_layers: 2, vocab_size: 700 });
    await assertRejects(() => openCheckpoint(directory), TypeError, "[700,64]");
    await editJson(config, { model_type: "gpt2" });
    await assertRejects(() => openCheckpoint(directory), TypeError, "'gpt2'");
    await Deno.writeTextFile(config, "{");
    await assertRejects(() => openCheckpoint(directory), TypeError, "config.json");
  });
});

Deno.test("a tokenizer with more tokens than the embedding has rows is told of", async () => {
  await withDirectory(async (directory) => {
    await copyDirectory("mistral", directory);
    const path = `${directory}/tokenizer.json`;
    const tokens = JSON.parse(await Deno.readTextFile(path))["added_tokens"];
    const more = [...tokens, { id: 701, content: "<more>", special: true }];
    await editJson(path, Object.fromEntries([["added_tokens", more]]));
    using checkpoint = await openCheckpoint(directory);
    assertEquals(checkpoint.tokenizer.encode("<more>", { addSpecialTokens: false }), [701]);
    assertEquals(checkpoint.warnings, [
      "the tokenizer has 702 tokens, the embedding 701: " +
      "ids from 701 on are refused where they are used",
    ]);
  });
});

Deno.test("an index of shards that points elsewhere is refused", () => {
  const index = (name: unknown): unknown => Object.fromEntries([["weight_map", { w: name }]]);
  assertEquals(shardNames(index("model-1.safetensors")), ["model-1.safetensors"]);
  for (const name of ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", ""]) {
    assertThrows(() => shardNames(index(name)), TypeError, `'${name}'`);
  }
  assertThrows(() => shardNames({}), TypeError, "weight_map");
});

Deno.test("a closed checkpoint reads no weights, and closing twice is harmless", async () => {
  const checkpoint = await openCheckpoint(fixture("llama.gguf"));
  checkpoint.close();
  checkpoint.close();
  assertThrows(() => checkpoint.weights.read("model.norm.weight"), Deno.errors.BadResource);
});

Deno.test("a given template is used instead of the checkpoint's own, with its special tokens", async () => {
  const source = "{% for one in messages %}{{ eos_token }}{{ one.content }}{% endfor %}";
  for (const name of ["llama.gguf", "mistral", "qwen3"]) {
    const path = fixture(name);
    using own = await openCheckpoint(path);
    using given = await openCheckpoint(path, { chatTemplate: source });
    assertEquals([given.templateChoice?.chatTemplate, given.chatTemplate?.source], [
      source,
      source,
    ]);
    assertEquals(given.warnings.filter((line) => line.includes("chat is refused")), []);
    assertMatch(given.chatTemplate?.render([{ role: "user", content: "Hi" }]) ?? "", /^<.+>Hi$/);
    assertEquals(await given.digest(), await own.digest());
    await assertRejects(
      () => openCheckpoint(path, { chatTemplate: "{% if %}" }),
      TypeError,
      "Cannot read the chat template",
    );
  }
});
