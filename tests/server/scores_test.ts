// deno-lint-ignore-file camelcase -- names of the wire format
/** `/v1/score` and `/v1/rerank` over tiny cross-encoders, and by cosine over a tiny encoder. */
import { assertEquals, assertLess, assertMatch } from "@std/assert";
import { distance } from "../graph/run.ts";
import { type Answer, encoderFolder, openEncoderApp } from "./encoder_app.ts";

/** float32 sums in another order: scores are of size 1. */
const TOLERANCE = 1e-4;

async function expectedOf(name: string) {
  return JSON.parse(await Deno.readTextFile(`${encoderFolder(name)}/expected.json`));
}

interface Result {
  readonly index: number;
  readonly document?: { readonly text: string };
  readonly relevance_score: number;
}

for (const name of ["rank-bert", "rank-xlm-roberta"]) {
  Deno.test(`${name} scores pairs as sentence-transformers does, long ones cut alike`, async () => {
    const { pairs, scores, longest } = await expectedOf(name);
    await using server = await openEncoderApp(name);
    const { status, body } = await server.ask("/v1/score", {
      text_1: pairs.map(([a]: string[]) => a),
      text_2: pairs.map(([, b]: string[]) => b),
      truncate_prompt_tokens: longest,
    });
    assertEquals(status, 200, JSON.stringify(body));
    const told = (body.data as { score: number }[]).map(({ score }) => score);
    assertLess(distance(told, scores), TOLERANCE);
  });
}

Deno.test("rerank puts the best first, and tells as many as are wanted", async () => {
  await using server = await openEncoderApp("rank-bert");
  const documents = ["one loaf", "the other road", "and there", "feeds"];
  const query = "the road";
  const { body } = await server.ask("/v1/score", { text_1: query, text_2: documents });
  const scores = (body.data as { score: number }[]).map(({ score }) => score);
  for (const path of ["/v1/rerank", "/rerank", "/v2/rerank"]) {
    const answer = await server.ask(path, { query, documents, top_n: 3 });
    const results = answer.body.results as Result[];
    const order = [0, 1, 2, 3].sort((a, b) => scores[b] - scores[a]).slice(0, 3);
    assertEquals(results.map(({ index }) => index), order);
    assertEquals(results.map(({ document }) => document?.text), order.map((i) => documents[i]));
    assertLess(
      distance(results.map((one) => one.relevance_score), order.map((i) => scores[i])),
      1e-6,
    );
  }
  const bare = await server.ask("/v1/rerank", {
    query,
    documents: documents.map((text) => ({ text })),
    return_documents: false,
  });
  assertEquals((bare.body.results as Result[]).map(({ document }) => document), [
    ...Array.from({ length: 4 }, () => undefined),
  ]);
});

Deno.test("an encoder without a head scores by the cosine of its vectors", async () => {
  const { texts, vectors } = await expectedOf("roberta");
  await using server = await openEncoderApp("roberta");
  const [query, ...documents] = texts;
  const { body } = await server.ask("/score", { text_1: query, text_2: documents });
  const told = (body.data as { score: number }[]).map(({ score }) => score);
  const cosine = (a: number[], b: number[]) =>
    a.reduce((sum, x, i) => sum + x * b[i], 0) / Math.hypot(...a) / Math.hypot(...b);
  const wanted = documents.map((_: string, i: number) => cosine(vectors[0], vectors[i + 1]));
  assertLess(distance(told, wanted), TOLERANCE);
});

Deno.test("what cannot be scored is refused by its field, and vectors by the endpoint to use", async () => {
  await using server = await openEncoderApp("rank-bert");
  const refused: readonly (readonly [string, object, string])[] = [
    ["/v1/score", { text_1: "one" }, "text_2"],
    ["/v1/score", { text_1: ["one", "two"], text_2: ["a", "b", "c"] }, "text_1"],
    ["/v1/rerank", { documents: ["a"] }, "query"],
    ["/v1/rerank", { query: "one", documents: [] }, "documents"],
    [
      "/v1/rerank",
      { query: "one", documents: ["a", "b ".repeat(90)], truncate: false },
      "documents[1]",
    ],
  ];
  for (const [path, json, param] of refused) {
    const { status, body } = await server.ask(path, json);
    assertEquals([status, (body.error as Answer).param], [400, param], JSON.stringify(body));
  }
  const { body } = await server.ask("/v1/embeddings", { input: "one" });
  assertMatch(String((body.error as Answer).message), /\/v1\/rerank/);
});
