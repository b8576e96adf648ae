/** The digest of large tensors, which are hashed some rows at a time. */
import { assertEquals } from "@std/assert";
import type { Rows, WeightSource, WeightType } from "../../src/checkpoint/checkpoint.ts";
import { modelDigest } from "../../src/checkpoint/digest.ts";
import { expectedWeights } from "../../src/checkpoint/expected_weights.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";

const TINY = new URL("../fixtures/models/llama", import.meta.url).pathname;

/** Tensors of the right shapes that claim to be stored in a byte a row. */
class ByteRows implements Pick<WeightSource, "info" | "readRaw"> {
  readonly asked: (Rows | undefined)[] = [];

  constructor(
    readonly shapes: ReadonlyMap<string, readonly number[]>,
    readonly type: WeightType,
  ) {}

  info(name: string) {
    return { shape: this.shapes.get(name) ?? [], type: this.type };
  }

  readRaw(name: string, rows?: Rows): Uint8Array {
    const count = this.info(name).shape[0] ?? 1;
    const all = Uint8Array.from({ length: count }, (_, row) => (row * 7 + name.length) % 251);
    this.asked.push(rows);
    return rows === undefined ? all : all.subarray(rows.first, rows.first + rows.count);
  }
}

Deno.test("a large tensor has the same digest read by rows as at once", async () => {
  using checkpoint = await openCheckpoint(TINY);
  const config = { ...checkpoint.config, vocabSize: 2 ** 21 };
  const digests: string[] = [];
  for (const wholly of [false, true]) {
    const weights = new ByteRows(expectedWeights(config), "F32");
    const readRaw = weights.readRaw.bind(weights);
    if (wholly) {
      weights.readRaw = (name, rows) => (rows?.first ?? 0) === 0 ? readRaw(name) : new Uint8Array();
    }
    digests.push(await modelDigest(config, weights as unknown as WeightSource));
    assertEquals(weights.asked.some((rows) => rows !== undefined), !wholly);
  }
  assertEquals(digests[0], digests[1]);
});

Deno.test("a tensor that is packed is hashed whole", async () => {
  using checkpoint = await openCheckpoint(TINY);
  const config = { ...checkpoint.config, vocabSize: 2 ** 21 };
  const weights = new ByteRows(expectedWeights(config), "AWQ");
  await modelDigest(config, weights as unknown as WeightSource);
  assertEquals(new Set(weights.asked), new Set([undefined]));
});
