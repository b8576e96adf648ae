/** Decoders from a GGUF's metadata where it says more, or less, than llama.cpp's converter writes. */
import { assertEquals, assertThrows } from "@std/assert";
import type { DecoderConfig } from "../../../src/checkpoint/checkpoint.ts";
import { RandomAccessFile } from "../../../src/checkpoint/formats/file.ts";
import { type GgufValue, readGgufHeader } from "../../../src/checkpoint/formats/gguf.ts";
import { ggufDecoderConfig } from "../../../src/checkpoint/formats/gguf_config.ts";

const FOLDER = new URL("../../fixtures/models/gguf/", import.meta.url).pathname;

/** The config of a fixture with other metadata; undefined = without the key. */
function changed(
  name: string,
  changes: Readonly<Record<string, GgufValue | undefined>>,
  tensors: Readonly<Record<string, readonly number[]>> = {},
): DecoderConfig {
  using file = RandomAccessFile.open(`${FOLDER}${name}.gguf`);
  const header = readGgufHeader(file);
  const metadata = new Map(header.metadata);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) metadata.delete(key);
    else metadata.set(key, value);
  }
  return ggufDecoderConfig({ ...header, metadata }, (tensor) => tensors[tensor]);
}

const PATTERN = "gemma3.attention.sliding_window_pattern";
const LOCAL = { rope: 1, window: 7 };
const GLOBAL = { rope: 0, window: undefined };

Deno.test("Gemma 3's pattern of layers is a period, or a flag a layer", () => {
  assertEquals(changed("gemma3", {}).layers, [...Array(5).fill(LOCAL), GLOBAL]);
  assertEquals(changed("gemma3", { [PATTERN]: 3 }).layers, [LOCAL, LOCAL, GLOBAL]);
  const flags = [true, false, false, true, true, true, false];
  assertEquals(
    changed("gemma3", { [PATTERN]: flags }).layers,
    flags.map((windowed) => windowed ? LOCAL : GLOBAL),
  );
  const words = { [PATTERN]: ["yes"] };
  assertThrows(() => changed("gemma3", words), TypeError, "sliding_window_pattern");
});

Deno.test("Gemma 3 without a window has the rotation of layers over everything alone", () => {
  const plain = changed("gemma3", { "gemma3.attention.sliding_window": undefined });
  assertEquals(plain.layers, [GLOBAL]);
  const wide = changed("gemma3", { "gemma3.attention.sliding_window": 128 });
  assertEquals(wide.layers.map(({ rope }) => rope), [1, 1, 1, 1, 1, 0]);
});

Deno.test("Gemma 2's window is 4096 where a file of its first days leaves it out", () => {
  const bare = changed("gemma2", {
    "gemma2.attention.sliding_window": undefined,
    "gemma2.context_length": 8192,
  });
  assertEquals(bare.layers, [{ rope: 0, window: 4096 }, { rope: 0, window: undefined }]);
});

Deno.test("OLMo 3, which says that it is an OLMo 2, is refused by its window", () => {
  const windowed = { "olmo2.attention.sliding_window": 4096 };
  const message = "attention.sliding_window must be absent, current value is 4096";
  assertThrows(() => changed("olmo2", windowed), TypeError, message);
});

Deno.test("LongRoPE's divisors are two tensors, and both are there", () => {
  const [long, short] = [[2, 3], [1, 1.5]];
  const tensors = { "rope_factors_long.weight": long, "rope_factors_short.weight": short };
  const [{ scaling }] = changed("phi3-long", {}, tensors).ropes;
  const attentionFactor = Math.fround(Math.sqrt(1 + Math.log(4) / Math.log(32)));
  assertEquals(scaling, {
    ...{ type: "longrope", long, short, originalMaxPositions: 32 },
    attentionFactor,
  });
  const named = { "phi3.rope.scaling.type": "longrope" };
  const half = { "rope_factors_long.weight": long };
  const message = "needs the tensor 'rope_factors_short.weight'";
  assertThrows(() => changed("phi3-long", named, half), TypeError, message);
});
