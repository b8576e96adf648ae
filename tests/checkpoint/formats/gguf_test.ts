/** GGUF headers: what they hold, and how those that lie are refused. */

import { PLAIN_FORM } from "../../../src/checkpoint/architectures/architecture.ts";
import { GEMMA_NORMS } from "../../../src/checkpoint/architectures/gemma3.ts";
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { RandomAccessFile } from "../../../src/checkpoint/formats/file.ts";
import { type GgufHeader, readGgufHeader } from "../../../src/checkpoint/formats/gguf.ts";
import { ggufDecoderConfig } from "../../../src/checkpoint/formats/gguf_config.ts";
import { huggingFaceName } from "../../../src/checkpoint/formats/gguf_weights.ts";
import { fixture, seeded, withFile } from "../fixtures.ts";

/** Bytes of a GGUF, field by field. */
class GgufBytes {
  readonly #bytes: number[] = [];

  u32(...values: readonly number[]): this {
    for (const value of values) this.#push(new Uint8Array(Uint32Array.of(value).buffer));
    return this;
  }

  u64(...values: readonly (number | bigint)[]): this {
    for (const value of values) {
      this.#push(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
    }
    return this;
  }

  text(value: string): this {
    return this.raw(new TextEncoder().encode(value));
  }

  /** A string that may be no text. */
  raw(bytes: ArrayLike<number>): this {
    return this.u64(bytes.length).#push(Uint8Array.from(bytes));
  }

  zeros(count: number): this {
    return this.#push(new Uint8Array(count));
  }

  alignTo(alignment: number): this {
    return this.zeros((alignment - this.#bytes.length % alignment) % alignment);
  }

  done(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  #push(bytes: Uint8Array): this {
    this.#bytes.push(...bytes);
    return this;
  }
}

const MAGIC = 0x46554747;
const F32 = 0;
const STRING = 8;
const ARRAY = 9;

const noTensors = () => undefined;

interface Tensor {
  readonly name?: string;
  readonly shape?: readonly (number | bigint)[];
  readonly type?: number;
  readonly offset?: number | bigint;
}

function withTensors(tensors: readonly Tensor[], dataBytes: number): Uint8Array {
  const bytes = new GgufBytes().u32(MAGIC, 3).u64(tensors.length, 0);
  for (const { name = "w", shape = [8], type = F32, offset = 0 } of tensors) {
    bytes.text(name).u32(shape.length).u64(...shape).u32(type).u64(offset);
  }
  return bytes.alignTo(32).zeros(dataBytes).done();
}

function read(bytes: Uint8Array): GgufHeader {
  return withFile(bytes, (path) => {
    using file = RandomAccessFile.open(path);
    return readGgufHeader(file);
  });
}

Deno.test("tensors lie where the header says, rows last", () => {
  const { tensors, version } = read(
    withTensors([{ name: "a", shape: [4, 2] }, { name: "b", shape: [8], offset: 64 }], 96),
  );
  assertEquals(version, 3);
  assertEquals(tensors.get("a")?.shape, [2, 4]);
  assertEquals(tensors.get("a")?.bytes, 32);
  assertEquals((tensors.get("b")?.offset ?? 0) - (tensors.get("a")?.offset ?? 0), 64);
});

Deno.test("every type of metadata is read", () => {
  const bytes = new GgufBytes().u32(MAGIC, 2).u64(0, 5)
    .text("text").u32(STRING).text("é")
    .text("big").u32(10).u64(2n ** 63n)
    .text("small").u32(10).u64(7)
    .text("list").u32(ARRAY, 4).u64(2).u32(1, 2)
    .text("words").u32(ARRAY, STRING).u64(2).text("a").text("").done();
  assertEquals([...read(bytes).metadata], [
    ["text", "é"],
    ["big", 2n ** 63n],
    ["small", 7],
    ["list", [1, 2]],
    ["words", ["a", ""]],
  ]);
});

Deno.test("strings of any UTF-8 are read as TextDecoder does, short and long; others are refused", () => {
  const words = [
    "Ġthe",
    "\u0080\u07ff",
    "\u0800",
    "日本",
    "🙂 é",
    "\ufeffx",
    "\0",
    "ÿ".repeat(300),
  ];
  const bytes = new GgufBytes().u32(MAGIC, 3).u64(0, 1)
    .text("words").u32(ARRAY, STRING).u64(words.length);
  for (const word of words) bytes.text(word);
  assertEquals(read(bytes.done()).metadata.get("words"), words);
  const broken = [[0x80], [0xc3], [0xc3, 0x41], [0xc0, 0x80], [0xc1, 0xbf], [0xff], [
    0x41,
    0xe2,
    0x82,
  ]];
  for (const one of broken) {
    const bytes = new GgufBytes().u32(MAGIC, 3).u64(0, 1).text("k").u32(STRING).raw(one).done();
    assertThrows(() => read(bytes), TypeError, "not UTF-8");
  }
});

Deno.test("counts and lengths that do not fit the file are refused, not allocated", () => {
  const start = (): GgufBytes => new GgufBytes().u32(MAGIC, 3);
  const huge = 2n ** 62n;
  const refused: readonly (readonly [Uint8Array, string])[] = [
    [start().u64(huge, 0).done(), "tensors"],
    [start().u64(0, huge).done(), "metadata pairs"],
    [start().u64(0, 1).u64(huge).zeros(20).done(), "bytes of a string"],
    [start().u64(0, 1).text("k").u32(STRING).u64(huge).done(), "bytes of a string"],
    [start().u64(0, 1).text("k").u32(ARRAY, 4).u64(huge).done(), "elements in 'k'"],
    [start().u64(0, 1).text("k").u32(ARRAY, STRING).u64(huge).done(), "strings in 'k'"],
    [start().u64(0, 1).text("k").u32(ARRAY, ARRAY).u64(1).done(), "unknown type 9"],
    [start().u64(0, 1).text("k").u32(99).zeros(8).done(), "unknown type 99"],
    [start().u64(0, 2).text("k").u32(4, 1).text("k").u32(4, 1).done(), "there twice"],
    [withTensors([{ shape: [huge] }], 0), "a dimension"],
    [withTensors([{ shape: [2n ** 40n, 2n ** 40n] }], 0), "shape"],
    [withTensors([{ shape: [0] }], 0), "shape"],
    [withTensors([{ shape: [1, 1, 1, 1, 1] }], 64), "5 dimensions"],
    [withTensors([{ shape: [8], offset: huge }], 64), "the offset"],
    [withTensors([{ shape: [8], offset: 4096 }], 64), "the file at"],
    [withTensors([{ shape: [1000] }], 64), "the file at"],
    [withTensors([{ shape: [8], offset: 4 }], 64), "no multiple of 32"],
    [withTensors([{ name: "a" }, { name: "b" }], 64), "overlaps 'a'"],
    [withTensors([{ name: "a" }, { name: "a", offset: 32 }], 64), "there twice"],
    [withTensors([{ shape: [33], type: 2 }], 64), "no whole Q4_0 blocks"],
    [withTensors([{ type: 10, shape: [256] }], 128), "type Q2_K"],
    [withTensors([{ type: 77 }], 64), "type number 77"],
  ];
  for (const [bytes, message] of refused) assertThrows(() => read(bytes), TypeError, message);
});

Deno.test("other files, other versions and the other byte order are refused", () => {
  assertThrows(() => read(new TextEncoder().encode("not a model")), TypeError, "GGUF");
  assertThrows(() => read(new Uint8Array(0)), TypeError, "within its header");
  assertThrows(
    () => read(new GgufBytes().u32(MAGIC, 1).zeros(16).done()),
    TypeError,
    "version is 1",
  );
  assertThrows(
    () => read(new GgufBytes().u32(MAGIC, 3 << 24).zeros(16).done()),
    TypeError,
    "big-endian",
  );
});

Deno.test("an alignment is a power of two, and counts", () => {
  const aligned = (alignment: number): Uint8Array =>
    new GgufBytes().u32(MAGIC, 3).u64(1, 1).text("general.alignment").u32(4, alignment)
      .text("w").u32(1).u64(8).u32(F32).u64(0).alignTo(Math.max(alignment, 1)).zeros(32).done();
  assertEquals((read(aligned(64)).tensors.get("w")?.offset ?? 1) % 64, 0);
  for (const alignment of [0, 3, 4, 48]) {
    assertThrows(() => read(aligned(alignment)), TypeError, "general.alignment");
  }
});

Deno.test("a real file cut anywhere is refused", () => {
  const bytes = Deno.readFileSync(fixture("llama.gguf"));
  const random = seeded(2);
  const cuts = Array.from(
    { length: 400 },
    (_, i) => i < 100 ? i : Math.floor(random() * bytes.length),
  );
  for (const cut of cuts) assertThrows(() => read(bytes.subarray(0, cut)), TypeError);
});

Deno.test("flipped bits in a real header give a TypeError or another valid header", () => {
  const original = Deno.readFileSync(fixture("qwen2.gguf"));
  const random = seeded(3);
  let refused = 0;
  for (let round = 0; round < 600; round++) {
    const bytes = original.slice();
    // The first keys, and the tensors' entries before the data.
    const at = Math.floor(random() * (round % 2 === 0 ? 900 : 19_000));
    bytes[at] = (bytes[at] ?? 0) ^ 1 << Math.floor(random() * 8);
    try {
      ggufDecoderConfig(read(bytes), noTensors);
    } catch (error) {
      assertInstanceOf(error, TypeError, `${error}`);
      refused++;
    }
  }
  assert(refused > 100, `only ${refused} of 600 were refused`);
});

Deno.test("an unknown architecture in a GGUF is refused by name", () => {
  const bytes = new GgufBytes().u32(MAGIC, 3).u64(0, 1)
    .text("general.architecture").u32(STRING).text("gpt2").done();
  assertThrows(
    () => ggufDecoderConfig(read(bytes), noTensors),
    TypeError,
    "Cannot load architecture 'gpt2'",
  );
});

Deno.test("a GGUF with experts and one with a soft cap are refused", () => {
  const architecture = (): GgufBytes =>
    new GgufBytes().u32(MAGIC, 3).u64(0, 2)
      .text("general.architecture").u32(STRING).text("llama");
  const experts = architecture().text("llama.expert_count").u32(4, 8).done();
  assertThrows(() => ggufDecoderConfig(read(experts), noTensors), TypeError, "8 experts");
  const capped = architecture().text("llama.attn_logit_softcapping").u32(4, 50).done();
  const message = "attn_logit_softcapping must be absent, current value is 50";
  assertThrows(() => ggufDecoderConfig(read(capped), noTensors), TypeError, message);
});

Deno.test("llama.cpp's names become Hugging Face's", () => {
  const hf = (name: string) => huggingFaceName(name, PLAIN_FORM.norms);
  const gemma = (name: string) => huggingFaceName(name, GEMMA_NORMS);
  const places = ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"];
  assertEquals(places.map((place) => gemma(`blk.3.${place}.weight`)), [
    "model.layers.3.input_layernorm.weight",
    "model.layers.3.post_attention_layernorm.weight",
    "model.layers.3.pre_feedforward_layernorm.weight",
    "model.layers.3.post_feedforward_layernorm.weight",
  ]);
  assertEquals(hf("blk.3.ffn_norm.weight"), "model.layers.3.post_attention_layernorm.weight");
  assertEquals(hf("blk.3.post_ffw_norm.weight"), undefined);
  assertEquals(hf("token_embd.weight"), "model.embed_tokens.weight");
  assertEquals(hf("output.weight"), "lm_head.weight");
  assertEquals(
    hf("blk.12.attn_output.weight"),
    "model.layers.12.self_attn.o_proj.weight",
  );
  assertEquals(hf("blk.0.attn_k.bias"), "model.layers.0.self_attn.k_proj.bias");
  assertEquals(hf("blk.0.ffn_gate_exps.weight"), undefined);
  assertEquals(hf("rope_freqs.weight"), undefined);
});
