/**
 * `/v1/embeddings` over a tiny encoder: shapes, formats and refusals. What its vectors must be is
 * `tests/models/encoder_test.ts`'.
 */
import { assert, assertEquals, assertGreater, assertLess, assertMatch } from "@std/assert";
import { coreFrom } from "../../adapters/lotr/core.ts";
import { writeCore } from "../../adapters/lotr/format.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { distance, randomArray } from "../graph/run.ts";
import { type Answer, encoderFolder, openEncoderApp } from "./encoder_app.ts";

const EXPECTED = JSON.parse(await Deno.readTextFile(`${encoderFolder("bert")}/expected.json`));
const TOLERANCE = 1e-4;

interface Item {
  readonly object: string;
  readonly index: number;
  readonly embedding: number[];
}

function items(body: Answer): readonly Item[] {
  return body.data as readonly Item[];
}

Deno.test("a list of texts is answered in its order, with the tokens that were used", async () => {
  await using server = await openEncoderApp("bert");
  const { status, body } = await server.ask("/v1/embeddings", { input: EXPECTED.texts });
  assertEquals([status, body.object, body.model], [200, "list", "bert"]);
  items(body).forEach(({ object, index, embedding }, i) => {
    assertEquals([object, index], ["embedding", i]);
    assertLess(distance(embedding, EXPECTED.vectors[i]), TOLERANCE);
  });
  const tokens = EXPECTED.ids.flat().length;
  assertEquals(body.usage, { prompt_tokens: tokens, total_tokens: tokens });
});

Deno.test("one text, its token ids, and a list of ids have the same vector", async () => {
  await using server = await openEncoderApp("bert");
  const [text] = EXPECTED.texts;
  const [ids] = EXPECTED.ids;
  for (const input of [text, ids, [ids], [text]]) {
    const { body } = await server.ask("/v1/embeddings", { input });
    assertEquals(items(body).length, 1);
    assertLess(distance(items(body)[0].embedding, EXPECTED.vectors[0]), TOLERANCE);
  }
});

Deno.test("base64 holds the float32 numbers", async () => {
  await using server = await openEncoderApp("bert");
  const input = EXPECTED.texts.slice(0, 2);
  const plain = await server.ask("/v1/embeddings", { input });
  const coded = await server.ask("/v1/embeddings", { input, encoding_format: "base64" });
  items(coded.body).forEach(({ embedding }, i) => {
    const bytes = Uint8Array.fromBase64(embedding as unknown as string);
    assertEquals(Array.from(new Float32Array(bytes.buffer)), items(plain.body)[i].embedding);
  });
});

Deno.test("dimensions keeps the first numbers, brought to length 1", async () => {
  await using server = await openEncoderApp("roberta");
  const input = "the road";
  const [whole] = items((await server.ask("/v1/embeddings", { input })).body);
  const [part] = items((await server.ask("/v1/embeddings", { input, dimensions: 5 })).body);
  const length = Math.hypot(...whole.embedding.slice(0, 5));
  assertLess(distance(part.embedding, whole.embedding.slice(0, 5).map((x) => x / length)), 1e-6);
});

Deno.test("texts are cut where they are too long, or at the request's own length, or refused", async () => {
  await using server = await openEncoderApp("bert");
  const input = "loaf ".repeat(300);
  const cut = await server.ask("/v1/embeddings", { input });
  assertEquals((cut.body.usage as Answer).prompt_tokens, 24);
  const shorter = await server.ask("/v1/embeddings", { input, truncate_prompt_tokens: 7 });
  assertEquals((shorter.body.usage as Answer).prompt_tokens, 7);
  const refused = await server.ask("/v1/embeddings", { input: ["one", input], truncate: false });
  assertEquals(refused.status, 400);
  assertEquals((refused.body.error as Answer).param, "input[1]");
  assertEquals((refused.body.error as Answer).code, "context_length_exceeded");
});

Deno.test("a tenant's core is chosen by the request's model, and the base stays as it is", async () => {
  await using server = await openEncoderApp("bert");
  const { registry } = server.model;
  const factors = randomFactors({ stack: registry.stack, rank: 4 });
  registry.factors.add(factors);
  const numbers = randomArray(factors.layers * factors.modules.length * 16, 1);
  const core = coreFrom(factors, 4, numbers);
  registry.add("acme/notes", { core, source: "memory" });
  const [text] = EXPECTED.texts;
  const ask = async (model: string) => {
    const { body } = await server.ask("/v1/embeddings", { input: text, model });
    return [body.model, items(body)[0].embedding] as const;
  };
  const [base, tuned] = await Promise.all([ask("bert"), ask("acme/notes")]);
  assertEquals([base[0], tuned[0]], ["bert", "acme/notes"]);
  assertLess(distance(base[1], EXPECTED.vectors[0]), TOLERANCE);
  assertGreater(distance(tuned[1], EXPECTED.vectors[0]), 0.01);
  const inline = { cores: writeCore(core).toBase64() };
  const { body } = await server.ask("/v1/embeddings", { input: text, adapter: inline });
  assertLess(distance(items(body)[0].embedding, tuned[1]), 1e-6);
});

const REFUSED: readonly (readonly [object, string, number])[] = [
  [{}, "input", 400],
  [{ input: [] }, "input", 400],
  [{ input: new Array(2049).fill("one") }, "input", 400],
  [{ input: [1, 2, 99999] }, "input[2]", 400],
  [{ input: [[1], [99999]] }, "input[1][0]", 400],
  [{ input: "one", dimensions: 33 }, "dimensions", 400],
  [{ input: "one", dimensions: 0 }, "dimensions", 400],
  [{ input: "one", encoding_format: "hex" }, "encoding_format", 400],
  [{ input: "one", truncate_prompt_tokens: 1000 }, "truncate_prompt_tokens", 400],
  [{ input: "one", model: "nobody/nothing" }, "model", 404],
];

Deno.test("what cannot be is refused by its field, and nothing is left in the engine", async () => {
  await using server = await openEncoderApp("bert");
  for (const [json, param, status] of REFUSED) {
    const answer = await server.ask("/v1/embeddings", json);
    const error = answer.body.error as Answer;
    assertEquals([answer.status, error.param], [status, param], JSON.stringify(json).slice(0, 60));
  }
  server.model.engine.checkIntegrity();
});

Deno.test("2,048 texts are one request", async () => {
  await using server = await openEncoderApp("bert");
  const input = Array.from({ length: 2048 }, (_, i) => EXPECTED.texts[i % EXPECTED.texts.length]);
  const { body } = await server.ask("/v1/embeddings", { input });
  items(body).forEach(({ embedding }, i) => {
    const wanted = EXPECTED.vectors[i % EXPECTED.texts.length];
    assertLess(distance(embedding, wanted), TOLERANCE);
  });
});

Deno.test("what writes texts names the endpoint that there is instead", async () => {
  await using server = await openEncoderApp("bert");
  for (const path of ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"]) {
    const { status, body } = await server.ask(path, { messages: [] });
    assertEquals(status, 400, path);
    assertMatch(String((body.error as Answer).message), /\/v1\/embeddings/);
  }
});

Deno.test("models, tokens, health, metrics and the API's description are an encoder's", async () => {
  await using server = await openEncoderApp("bert");
  const get = async (path: string) => await (await server.app.request(path)).text();
  assertEquals(JSON.parse(await get("/v1/models")).data[0].max_model_len, 24);
  assertEquals(await get("/health"), "");
  const { body } = await server.ask("/tokenize", { prompt: EXPECTED.texts[0] });
  assertEquals(body.tokens, EXPECTED.ids[0]);
  await server.ask("/v1/embeddings", { input: EXPECTED.texts[0] });
  const counted = `vllm:prompt_tokens_total{model_name="bert"} ${EXPECTED.ids[0].length}`;
  assert((await get("/metrics")).includes(counted));
  const { paths } = JSON.parse(await get("/openapi.json"));
  assertEquals(["/v1/embeddings" in paths, "/v1/chat/completions" in paths], [true, false]);
});
