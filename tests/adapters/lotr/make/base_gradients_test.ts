/** A base's weight gradients: when they are in float32, and that those of the served weights are near. */
import { assertEquals, assertGreater } from "@std/assert";
import { loadWeights } from "../../../../adapters/loaded_base.ts";
import {
  fitsInFloat32,
  float32Gradients,
  servedGradients,
} from "../../../../adapters/lotr/make/base_gradients.ts";
import { textExamples } from "../../../../adapters/lotr/make/corpus.ts";
import type { Checkpoint } from "../../../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../../../src/checkpoint/open.ts";
import { MODULES } from "../../../../src/models/hook.ts";
import { openDevice } from "../../../../src/runtime/open.ts";

const GIB = 2 ** 30;

function modelPath(name: string): string {
  return new URL(`../../../fixtures/models/${name}`, import.meta.url).pathname;
}

/** A checkpoint of one tensor of so many numbers. */
function ofSize(count: number): Pick<Checkpoint, "weights"> {
  const weights = { names: () => ["w"], info: () => ({ shape: [count / 4, 4], type: "F32" }) };
  return { weights } as unknown as Pick<Checkpoint, "weights">;
}

Deno.test("gradients are in float32 up to a gigabyte of weights, where four times that is free", () => {
  const cases = [
    [GIB / 4, 100 * GIB, true],
    [GIB / 4 + 4, 100 * GIB, false],
    [GIB / 8, 2 * GIB, true],
    [GIB / 8, 2 * GIB - 1, false],
  ] as const;
  for (const [count, available, fits] of cases) {
    assertEquals(fitsInFloat32(ofSize(count), available), fits, `${count} of ${available}`);
  }
});

for (const name of ["llama", "qwen2"]) {
  Deno.test(`gradients over the served weights of ${name} point where those in float32 do`, async () => {
    using checkpoint = await openCheckpoint(modelPath(name));
    using device = openDevice("cpu");
    const text =
      "A text of two passages that tiny models can read.\n\nThe second has some more words.";
    const examples = textExamples(text, checkpoint.tokenizer, 24);
    const request = { examples, modules: MODULES };
    const plain = float32Gradients(checkpoint, { device });
    const expected = await Array.fromAsync(plain.weightGradients(request));
    plain.release();
    // shorter than gradients' own positions: RoPE's tables of one must not serve the other
    const spec = { dtype: "int8", maxBatch: 4, maxContext: 8 } as const;
    const base = await loadWeights(device, checkpoint, spec);
    const source = servedGradients(base.shared, { onRelease: () => base.release() });
    const found = await Array.fromAsync(source.weightGradients(request));
    source.release();
    assertEquals(found.length, expected.length);
    found.forEach(({ layer, module, values }, i) => {
      assertEquals([layer, module], [expected[i].layer, expected[i].module]);
      assertGreater(cosine(values, expected[i].values), 0.97, `${layer} ${module}`);
    });
  });
}

function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array) =>
    x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
