// deno-lint-ignore-file camelcase -- names of the wire format
/** LoRAX's own paths, and its names for adapters in OpenAI's shapes, over a fake engine. */
import { assert, assertEquals } from "@std/assert";
import {
  type LoraxAnswer,
  loraxAnswerSchema,
  type LoraxTokenEvent,
  loraxTokenEventSchema,
} from "../../server/http/lorax/schema.ts";
import { errorOf, HELLO, type Json, post } from "./asked.ts";
import { type FakeContext, fakeContext } from "./fake_context.ts";

async function generate(context: FakeContext, body: Json): Promise<LoraxAnswer> {
  const response = await post(context, "/generate", body);
  assertEquals(response.status, 200);
  return loraxAnswerSchema.parse(await response.json());
}

async function events(context: FakeContext, path: string, body: Json): Promise<LoraxTokenEvent[]> {
  const response = await post(context, path, body);
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const blocks = (await response.text()).split("\n\n").filter((block) => block !== "");
  return blocks.map((block) =>
    loraxTokenEventSchema.parse(JSON.parse(block.slice("data:".length)))
  );
}

Deno.test("/generate tells its text, and tokens and the end where details are asked for", async () => {
  const context = fakeContext();
  assertEquals(await generate(context, { inputs: "ab" }), { generated_text: "Hello, world" });
  const parameters = { max_new_tokens: 5, details: true, return_full_text: true, seed: 7 };
  const { generated_text, details } = await generate(context, { inputs: "ab", parameters });
  assertEquals(generated_text, "abHello");
  assert(details !== undefined);
  const { tokens, ...end } = details;
  assertEquals(end, {
    ...{ finish_reason: "length", prompt_tokens: 2, generated_tokens: 5, seed: 7 },
    prefill: [],
  });
  assertEquals(tokens.map(({ text }) => text).join(""), "Hello");
  assertEquals(
    new Set(tokens.map(({ logprob, special }) => [logprob, special].join())),
    new Set(["-0.5,false"]),
  );
});

Deno.test("it is greedy unless something asks for more, and cuts the prompt's beginning", async () => {
  const context = fakeContext();
  const cases: [Json, number, number, number][] = [
    [{}, 0, 0, 1],
    [{ do_sample: true }, 1, 0, 1],
    [{ temperature: 0.5 }, 0.5, 0, 1],
    [{ top_k: 4 }, 1, 4, 1],
    [{ top_p: 0.5 }, 1, 0, 0.5],
    [{ temperature: 1, top_p: 1 }, 0, 0, 1],
  ];
  for (const [parameters, temperature, topK, topP] of cases) {
    await generate(context, { inputs: "abcdef", parameters: { truncate: 3, ...parameters } });
    const { sampling, prompt } = context.engine.requests.at(-1) ?? {};
    const found = [sampling?.temperature, sampling?.topK, sampling?.topP];
    assertEquals(found, [temperature, topK, topP], JSON.stringify(parameters));
    assertEquals(String.fromCharCode(...prompt ?? []), "def");
  }
});

Deno.test("a stream has an event for each token, and the text with the last", async () => {
  const context = fakeContext();
  const body = { inputs: "ab", parameters: { max_new_tokens: 5 } };
  const streamed = await events(context, "/generate_stream", body);
  assertEquals(streamed.map(({ token }) => token.text).join(""), "Hello");
  assertEquals(streamed.map(({ generated_text: text }) => text), [null, null, null, null, "Hello"]);
  const { finish_reason, generated_tokens } = streamed.at(-1)?.details ?? {};
  assertEquals([finish_reason, generated_tokens], ["length", 5]);
  assertEquals(await events(context, "/generate", { ...body, stream: true }), streamed);
  const full = await events(context, "/generate_stream", { inputs: "ab" });
  assertEquals(full.at(-1)?.details?.finish_reason, "eos_token");
});

Deno.test("what it cannot do is refused by name", async () => {
  const context = fakeContext();
  const cases: [Json, string][] = [
    [{ watermark: true }, "parameters.watermark"],
    [{ best_of: 2 }, "parameters.best_of"],
    [{ typical_p: 0.5 }, "parameters.typical_p"],
    [{ adapter_parameters: { ids: ["a"] } }, "parameters.adapter_parameters"],
    [{ adapter_id: "x", adapter_source: "s3" }, "parameters.adapter_source"],
    [{ max_new_tokens: 0 }, "parameters.max_new_tokens"],
  ];
  for (const [parameters, param] of cases) {
    const error = await errorOf(await post(context, "/generate", { inputs: "a", parameters }));
    assertEquals([error.status, error.param], [400, param]);
  }
});

const adapterOf = ({ engine }: FakeContext) => engine.requests.at(-1)?.adapter?.model;

Deno.test("adapter_id is a name, a path or an id of the hub, in each of the shapes", async () => {
  const context = fakeContext();
  context.adapters.add("ada/haiku");
  const shapes: ((id: Json) => Promise<Response>)[] = [
    (parameters) => post(context, "/generate", { inputs: "a", parameters }),
    (fields) => post(context, "/v1/completions", { prompt: "a", ...fields }),
    (fields) => post(context, "/v1/chat/completions", { messages: HELLO.messages, ...fields }),
  ];
  for (const ask of shapes) {
    const asked = async (fields: Json) => {
      const response = await ask(fields);
      await response.text();
      return [response.status, response.status === 200 ? adapterOf(context) : undefined];
    };
    assertEquals(await asked({ adapter_id: "ada/haiku", adapter_source: "local" }), [
      200,
      "ada/haiku",
    ]);
    assertEquals(await asked({ adapter_id: "ada/haiku" }), [200, "ada/haiku"]);
    assertEquals(await asked({ adapter_id: "tiny" }), [200, undefined]);
    assertEquals(await asked({ adapter_id: "__base_model__" }), [200, undefined]);
    assertEquals(await asked({ adapter_id: "loras/b", adapter_source: "local" }), [
      200,
      "default/loras.b",
    ]);
    assertEquals(await asked({ adapter_id: "some/lora", adapter_source: "hub" }), [
      200,
      "default/some.lora",
    ]);
    assertEquals((await asked({ adapter_id: "nobody" }))[0], 404);
    assertEquals((await asked({ adapter_id: "foreign", adapter_source: "local" }))[0], 400);
  }
});
