/** Structural tags through the real grammar library: free text, and the form of what is in tags. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Grammar, GrammarPool } from "../../src/grammar/pool.ts";
import type { TagFormat } from "../../src/grammar/compile_tags.ts";
import { FieldError } from "../../src/util/errors.ts";
import { EOS, FakeTokenizer } from "../fakes/tokenizer.ts";

const tokenizer = new FakeTokenizer();

const COUNT = { type: "object", properties: { n: { type: "integer", maximum: 9, minimum: 0 } } };
const TAGS = [
  {
    type: "tag",
    begin: "<f=n>",
    end: "</f>",
    content: { type: "json_schema", json_schema: COUNT },
  },
  { type: "tag", begin: "<f=re>", end: "</f>", content: { type: "regex", pattern: "a{2}b?" } },
  {
    type: "tag",
    begin: "<f=g>",
    end: "</f>",
    content: { type: "grammar", grammar: 'root ::= "x"' },
  },
] as const;
const FREE: TagFormat = { type: "triggered_tags", triggers: ["<f="], tags: TAGS };

function asked(format: TagFormat): Grammar {
  return { type: "structural_tag", format, field: "response_format" };
}

/** How much of a text the grammar takes, and whether it may end there. */
async function taken(pool: GrammarPool, grammar: Grammar, text: string): Promise<string> {
  const matcher = await pool.matcher(grammar, "ada");
  const allows = (id: number) => (((matcher.mask[id >> 5] ?? 0) >>> (id & 31)) & 1) === 1;
  const bytes = new TextEncoder().encode(text);
  let at = 0;
  for (; at < bytes.length && allows(bytes[at]); at++) {
    matcher.accept(bytes[at]);
    await matcher.settled();
  }
  const end = allows(EOS) ? "." : "";
  matcher.dispose();
  return new TextDecoder().decode(bytes.subarray(0, at)) + end;
}

const CASES: readonly (readonly [TagFormat, string, string])[] = [
  [FREE, "say <b> and", "say <b> and."],
  [FREE, '<f=n>{"n": 7}</f> then <f=re>aab</f>', '<f=n>{"n": 7}</f> then <f=re>aab</f>.'],
  [FREE, '<f=n>{"n": 12}</f>', '<f=n>{"n": 1'],
  [FREE, "<f=re>ac", "<f=re>a"],
  [FREE, "so <f=g>x</f>!", "so <f=g>x</f>!."],
  [FREE, "<f=other>", "<f="],
  [{ ...FREE, at_least_one: true, stop_after_first: true }, "<f=g>x</f>!", "<f=g>x</f>."],
  [
    { type: "tags_with_separator", separator: ",", tags: TAGS },
    "<f=g>x</f>,<f=g>x</f>",
    "<f=g>x</f>,<f=g>x</f>.",
  ],
  [
    {
      type: "sequence",
      elements: [{ type: "const_string", value: "A: " }, {
        type: "or",
        elements: [TAGS[1], TAGS[2]],
      }],
    },
    "A: <f=re>aa</f>",
    "A: <f=re>aa</f>.",
  ],
];

Deno.test("outside of tags text is free, inside it has their form", async () => {
  const { vocabSize } = tokenizer;
  const pool = new GrammarPool({ tokenizer, vocabSize, stopTokens: [EOS] });
  try {
    for (const [format, text, expected] of CASES) {
      assertEquals(await taken(pool, asked(format), text), expected);
    }
  } finally {
    pool.close();
  }
});

Deno.test("a grammar behind reasoning holds from its end on, whichever grammar it is", async () => {
  const { vocabSize } = tokenizer;
  const pool = new GrammarPool({ tokenizer, vocabSize, stopTokens: [EOS] });
  const behind = (required: boolean, grammar: Grammar): Grammar => ({
    ...{ type: "behind", start: "<think>", end: "</think>", required, grammar },
  });
  const schema: Grammar = { type: "json_schema", schema: COUNT, strict: false };
  const calls: Grammar = {
    type: "calls",
    format: "hermes",
    tools: [{ name: "f", parameters: COUNT, field: "tools[0]" }],
    ...{ most: 1, opened: false, otherwise: undefined },
  };
  const call = '<tool_call>\n{"name": "f", "arguments": {"n": 7}}\n</tool_call>';
  const cases: readonly (readonly [Grammar, string, string])[] = [
    [behind(true, schema), 'a < b</t </think>{"n": 7}', 'a < b</t </think>{"n": 7}.'],
    [behind(true, schema), '<think>{"n": x</think>{"n": 12}', '<think>{"n": x</think>{"n": 1'],
    [behind(true, schema), '{"n": 7}', '{"n": 7}'],
    [behind(false, schema), '{"n": 7} ', '{"n": 7}.'],
    [behind(false, schema), '<think>hm</think>{"n": 7}', '<think>hm</think>{"n": 7}.'],
    [behind(false, schema), "hm", ""],
    [behind(true, { type: "json" }), "</think>[", "</think>"],
    [behind(true, calls), `hm</think>${call}`, `hm</think>${call}.`],
    [behind(true, asked(FREE)), "hm</think>so <f=g>y", "hm</think>so <f=g>"],
    [
      behind(true, { type: "choice", choices: ["yes", "no"], field: "guided_choice" }),
      "</think>nay",
      "</think>n",
    ],
  ];
  try {
    for (const [grammar, text, expected] of cases) {
      assertEquals(await taken(pool, grammar, text), expected);
    }
    const wrong = behind(true, { ...schema, schema: { not: {} } });
    const error = await assertRejects(() => pool.matcher(wrong, "ada"), FieldError);
    assertEquals(error.field, "response_format.json_schema.schema");
  } finally {
    pool.close();
  }
});

Deno.test("what a tag cannot hold is refused by its place, and others go on", async () => {
  const { vocabSize } = tokenizer;
  const pool = new GrammarPool({ tokenizer, vocabSize, stopTokens: [EOS] });
  const tag = (content: TagFormat): TagFormat => ({
    ...{ type: "triggered_tags", triggers: ["<"] },
    tags: [{ type: "tag", begin: "<a>", content, end: "</a>" }],
  });
  const cases: readonly (readonly [TagFormat, string])[] = [
    [tag({ type: "json_schema", json_schema: { not: {} } }), "tags[0].content.json_schema"],
    [tag({ type: "regex", pattern: "(" }), "tags[0].content.pattern"],
    [tag({ type: "grammar", grammar: "root ::= other" }), "tags[0].content.grammar"],
    [{ ...FREE, triggers: ["<g="] }, "tags[0].begin"],
    [{ ...FREE, triggers: ["<f", "<f="] }, "tags[0].begin"],
  ];
  try {
    for (const [format, place] of cases) {
      const error = await assertRejects(() => pool.matcher(asked(format), "ada"), FieldError);
      assertEquals(error.field, `response_format.format.${place}`);
    }
    assert((await pool.matcher(asked(FREE), "ada")).ready);
  } finally {
    pool.close();
  }
});
