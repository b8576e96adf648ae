// deno-lint-ignore-file camelcase -- names of the wire format
/** The form of outputs by OpenAI's, vLLM's and llama.cpp's names, down to the text that comes back. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { errorOf, HELLO, type Json, post } from "./asked.ts";
import { fakeContext } from "./fake_context.ts";
import { errorOf as keyedError, openKeyedApp } from "./keyed_app.ts";

const SCHEMA = { type: "object", properties: { a: { type: "boolean" } }, required: ["a"] };
const TAG = {
  type: "tag",
  begin: "<f=a>",
  content: { type: "json_schema", json_schema: SCHEMA },
  end: "</f>",
};
const BARE_TAGS = { type: "triggered_tags", triggers: ["<f="], tags: [TAG] };
const TAGS = { ...BARE_TAGS, at_least_one: false, stop_after_first: false };

Deno.test("each name of a form reaches the engine as that form", async () => {
  const context = fakeContext();
  const schema = (field?: string) => ({
    type: "json_schema",
    schema: SCHEMA,
    strict: false,
    ...(field === undefined ? {} : { field }),
  });
  const regex = (field: string) => ({ type: "regex", pattern: "a+", field });
  const choice = (field: string) => ({ type: "choice", choices: ["a", "b"], field });
  const ebnf = (field: string) => ({ type: "ebnf", text: 'root ::= "a"', field });
  const tags = (field: string) => ({ type: "structural_tag", format: TAGS, field });
  const text = JSON.stringify(SCHEMA);
  const cases: readonly (readonly [Json, unknown])[] = [
    [{ response_format: { type: "json_object" } }, { type: "json" }],
    [{ response_format: { type: "json_object", schema: SCHEMA } }, schema()],
    [{ response_format: { type: "json_schema", schema: SCHEMA } }, schema()],
    [{ response_format: { type: "json_schema", json_schema: { schema: SCHEMA } } }, schema()],
    [{ json_schema: SCHEMA }, schema("json_schema")],
    [{ grammar: 'root ::= "a"' }, ebnf("grammar")],
    [{ guided_json: SCHEMA }, schema("guided_json")],
    [{ guided_json: text, guided_decoding_backend: "xgrammar" }, schema("guided_json")],
    [{ guided_regex: "a+" }, regex("guided_regex")],
    [{ guided_choice: ["a", "b"] }, choice("guided_choice")],
    [{ guided_grammar: 'root ::= "a"' }, ebnf("guided_grammar")],
    [{ structured_outputs: { json: SCHEMA } }, schema("structured_outputs.json")],
    [{ structured_outputs: { regex: "a+" } }, regex("structured_outputs.regex")],
    [{ structured_outputs: { choice: ["a", "b"] } }, choice("structured_outputs.choice")],
    [{ structured_outputs: { grammar: 'root ::= "a"' } }, ebnf("structured_outputs.grammar")],
    [{ structured_outputs: { json_object: true } }, { type: "json" }],
    [{ response_format: { type: "structural_tag", format: TAGS } }, tags("response_format")],
    [
      { structured_outputs: { structural_tag: JSON.stringify({ format: TAGS }) } },
      tags("structured_outputs.structural_tag"),
    ],
    [
      {
        response_format: {
          type: "structural_tag",
          structures: [{ begin: "<f=a>", schema: SCHEMA, end: "</f>" }],
          triggers: ["<f="],
        },
      },
      { type: "structural_tag", format: BARE_TAGS, field: "response_format" },
    ],
    [{ structured_outputs: null, guided_json: null, guided_regex: "" }, undefined],
  ];
  for (const [fields, grammar] of cases) {
    for (const body of [{ ...HELLO, ...fields }, { prompt: "a", ...fields }]) {
      const path = "prompt" in body ? "/v1/completions" : "/v1/chat/completions";
      assertEquals((await post(context, path, body)).status, 200, JSON.stringify(fields));
      assertEquals(context.engine.requests.pop()?.sampling.grammar, grammar as undefined);
    }
  }
});

Deno.test("two forms, or what is none, are refused by name", async () => {
  const context = fakeContext();
  const tools = [{ type: "function", function: { name: "f" } }];
  const cases: readonly (readonly [Json, string])[] = [
    [{ guided_regex: "a", guided_choice: ["a"] }, "guided_choice"],
    [{ response_format: { type: "json_object" }, guided_regex: "a" }, "guided_regex"],
    [{ guided_json: "{" }, "guided_json"],
    [{ guided_choice: [] }, "guided_choice"],
    [{ structured_outputs: { structural_tag: "{" } }, "structured_outputs.structural_tag"],
    [{ structured_outputs: { structural_tag: "{}" } }, "structured_outputs.structural_tag.format"],
    [
      { response_format: { type: "structural_tag", format: { ...TAGS, triggers: [] } } },
      "response_format.format.triggers",
    ],
    [
      {
        response_format: {
          type: "structural_tag",
          format: { type: "sequence", elements: [{ type: "tag" }] },
        },
      },
      "response_format.format.elements.0.begin",
    ],
    [{ response_format: { type: "json_schema" } }, "response_format.json_schema"],
    [{ tools, tool_choice: "required", guided_regex: "a" }, "tools"],
  ];
  for (const [fields, param] of cases) {
    const error = await errorOf(
      await post(context, "/v1/chat/completions", { ...HELLO, ...fields }),
    );
    assertEquals([error.status, error.param], [400, param]);
  }
});

Deno.test("texts hold to choices, patterns and grammars, with the engine and the library", async () => {
  await using served = await openKeyedApp({ open: true });
  const say = async (fields: Json) => {
    const json = { prompt: "a", max_tokens: 40, temperature: 1, ...fields };
    const answer = await served.ask("POST", "/v1/completions", { json });
    const body = await answer.json();
    assertEquals(answer.status, 200, JSON.stringify(body));
    return body.choices[0].text as string;
  };
  for (let seed = 0; seed < 3; seed++) {
    assert(["red", "deep blue"].includes(await say({ seed, guided_choice: ["red", "deep blue"] })));
    assertMatch(await say({ seed, guided_regex: "[a-c]{2}-\\d" }), /^[a-c]{2}-\d$/);
    const grammar = 'root ::= word (", " word){0,2}\nword ::= "elf" | "orc"';
    const said = await say({ seed, structured_outputs: { grammar } });
    assertMatch(said, /^(elf|orc)(, (elf|orc)){0,2}$/);
  }
  const wrong = await served.ask("POST", "/v1/completions", {
    json: { prompt: "a", guided_grammar: "start: item" },
  });
  const { status, message } = await keyedError(wrong);
  assertEquals(status, 400);
  assertStringIncludes(message, "Cannot use the grammar: line 1: a rule is written name ::=");
});

Deno.test("only allowed tokens come, no bad words, and a prompt's end is kept", async () => {
  await using served = await openKeyedApp({ open: true });
  const ask = async (fields: Json) => {
    const json = { prompt: "abc", max_tokens: 60, temperature: 1, ignore_eos: true, ...fields };
    const answer = await served.ask("POST", "/v1/completions", { json });
    assertEquals(answer.status, 200);
    return await answer.json();
  };
  const ids = [..."xyz"].map((letter) => letter.charCodeAt(0));
  const free = (await ask({ seed: 1, allowed_token_ids: ids })).choices[0].text;
  assertMatch(free, /^[xyz]{60}$/);
  assertStringIncludes(free, "xy");
  const barred = await ask({ seed: 1, allowed_token_ids: ids, bad_words: ["xy", "zzz"] });
  assertMatch(barred.choices[0].text, /^[xyz]{60}$/);
  assert(!/xy|zzz/.test(barred.choices[0].text), barred.choices[0].text);
  const long = "b".repeat(300);
  for (const prompt of [long, Array(300).fill(98)]) {
    const cut = await ask({ prompt, truncate_prompt_tokens: 5, max_tokens: 1, echo: true });
    assertEquals([cut.usage.prompt_tokens, cut.choices[0].text.slice(0, 5)], [5, "bbbbb"]);
    const most = await ask({ prompt, truncate_prompt_tokens: -1, max_tokens: 10 });
    assertEquals(most.usage.prompt_tokens, 246);
  }
  const messages = [{ role: "user", content: "hello" }];
  const chat = await served.ask("POST", "/v1/chat/completions", {
    json: { messages, truncate_prompt_tokens: 4, max_tokens: 1 },
  });
  assertEquals((await chat.json()).usage.prompt_tokens, 4);
});
