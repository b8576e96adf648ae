/**
 * Encoders of every supported architecture against sentence-transformers' vectors and transformers'
 * hidden states for the same weights (`tests/fixtures/encoders/make.py`).
 */
import { assert, assertEquals, assertLess } from "@std/assert";
import { EncoderModel } from "../../adapters/encoder_model.ts";
import { openEncoder } from "../../src/checkpoint/encoder/open.ts";
import { layoutOf } from "../../src/executor/encoder/text_layout.ts";
import { evaluate } from "../../src/graph/reference/evaluate.ts";
import { buildEncoder, encoderInputs } from "../../src/models/encoder/encoder.ts";
import { EncoderParameters } from "../../src/models/encoder/encoder_parameters.ts";
import { inputs } from "../../src/models/inputs.ts";
import { distance } from "../graph/run.ts";

const FIXTURES = new URL("../fixtures/encoders/", import.meta.url);

// float32 sums in another order: hidden states and vectors are of size 1.
const TOLERANCE = 1e-4;

const NAMES = ["bert", "bert-dense", "roberta", "xlm-roberta", "mpnet"];

interface Expected {
  readonly texts: readonly string[];
  readonly ids: readonly (readonly number[])[];
  readonly vectors: readonly (readonly number[])[];
  /** Of the first text. */
  readonly hidden: readonly (readonly number[])[];
}

function folderOf(name: string): string {
  return new URL(name, FIXTURES).pathname;
}

async function expectedOf(name: string): Promise<Expected> {
  return JSON.parse(await Deno.readTextFile(`${folderOf(name)}/expected.json`));
}

for (const name of NAMES) {
  Deno.test(`${name}: all texts in one pass give sentence-transformers' vectors`, async () => {
    const { texts, ids, vectors } = await expectedOf(name);
    await using model = await EncoderModel.load({ path: folderOf(name) });
    const framed = texts.map((text) => model.frameOne(model.tokens(text)));
    assertEquals(framed.map((one) => one.ids), ids);
    const pooled = await model.engine.embed({
      ...{ id: "1", tenant: "t", standing: undefined, adapter: undefined, texts: framed },
      ...{ background: false, signal: new AbortController().signal },
    });
    pooled.forEach((vector, i) => {
      assertLess(distance(model.finish(vector), vectors[i]), TOLERANCE, texts[i]);
    });
  });

  Deno.test(`${name}: the graph by its formulas has transformers' hidden states`, async () => {
    const { ids: [first], hidden } = await expectedOf(name);
    using checkpoint = await openEncoder(folderOf(name));
    const layout = layoutOf(checkpoint.config, [{ ids: first, types: first.map(() => 0) }]);
    const graph = buildEncoder(checkpoint.config, undefined, "hidden");
    const ints = (data: Int32Array) => ({ shape: [data.length], data });
    const [out] = evaluate(graph, {
      [inputs.ids]: ints(layout.ids),
      [encoderInputs.positions]: ints(layout.positions),
      [encoderInputs.types]: ints(layout.types),
      [inputs.grid]: ints(Int32Array.of(1, layout.time)),
      [encoderInputs.lengths]: ints(layout.lengths),
      [inputs.cells]: ints(layout.cells),
      [inputs.places]: ints(layout.places),
    }, new EncoderParameters(checkpoint, undefined));
    assertLess(distance(out.data, hidden.flat()), TOLERANCE);
  });
}

Deno.test("a long text is read only as far as it is kept, with the same tokens", async () => {
  for (const name of NAMES) {
    await using model = await EncoderModel.load({ path: folderOf(name) });
    const text = "the road  goes né?\n\tloaf ".repeat(400);
    const all = model.tokens(text);
    const some = model.tokens(text, 20);
    assertLess(some.length, all.length);
    assert(some.length > 20, name);
    assertEquals(some.slice(0, 20), all.slice(0, 20), name);
  }
});
