/** Grammars of tool calls: what they let through is read as calls, with arguments by their schemas. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { CALL_FORMATS, type CallFormat, callParser } from "../../src/calls/formats.ts";
import { uniformAt } from "../../src/executor/philox.ts";
import type { CallsGrammar } from "../../src/grammar/compile_calls.ts";
import { FieldError } from "../../src/util/errors.ts";
import { EOS } from "../fakes/tokenizer.ts";
import { byteMatcher, type Choose } from "./byte_matcher.ts";
import { LONG } from "../long.ts";

const UNIT = { enum: ["celsius", "fahrenheit", true, null] };

/** Both have definitions of the same name, which are not the same. */
const SCHEMAS: Readonly<Record<string, Record<string, unknown>>> = {
  weather: {
    type: "object",
    properties: {
      city: { type: "string", maxLength: 6 },
      unit: { $ref: "#/$defs/Unit" },
      days: { type: "array", items: { type: "integer", minimum: 1, maximum: 7 }, maxItems: 2 },
    },
    required: ["city"],
    additionalProperties: false,
    $defs: { Unit: UNIT },
  },
  add: {
    type: "object",
    properties: { a: { $ref: "#/$defs/Unit" }, deep: { type: "boolean" } },
    required: ["a", "deep"],
    additionalProperties: false,
    $defs: { Unit: { type: "integer", minimum: 0, maximum: 99 } },
  },
  nothing: { type: "object", properties: {}, additionalProperties: false },
};

function calls(format: CallFormat, more: Partial<CallsGrammar> = {}): CallsGrammar {
  return {
    type: "calls",
    format,
    tools: Object.entries(SCHEMAS).map(([name, parameters], index) => ({
      ...{ name, parameters },
      field: `tools[${index}].function.parameters`,
    })),
    most: 3,
    opened: false,
    otherwise: undefined,
    ...more,
  };
}

/** Ends where it may, and else takes anything but blanks. */
function wanderer(seed: number): Choose {
  let position = 0;
  const draw = (count: number) => Math.floor(uniformAt(seed, 0, position++) * count);
  return (allowed) => {
    if (allowed.includes(EOS) && draw(2) === 0) return EOS;
    const others = allowed.filter((id) => id !== EOS);
    const closing = others.filter((id) => '"]}'.includes(String.fromCharCode(id)));
    const inked = others.filter((id) => id > 32);
    const from = closing.length > 0 && draw(3) > 0 ? closing : inked.length > 0 ? inked : others;
    return from[draw(from.length)] ?? EOS;
  };
}

/** Name and arguments of each call; fails where anything else was said. */
function read(format: CallFormat, text: string): readonly (readonly [string, unknown])[] {
  const parser = callParser(format, Object.keys(SCHEMAS));
  const found: [string, string][] = [];
  for (const event of [...parser.push(text), ...parser.finish("whole")]) {
    if (event.type === "call") found.push([event.name, ""]);
    else if (event.type === "arguments") (found[event.call] ?? ["", ""])[1] += event.text;
    else throw new Error(`${format}: not a call: ${event.text} in ${text}`);
  }
  return found.map(([name, args]) => [name, JSON.parse(args)]);
}

for (const format of CALL_FORMATS) {
  Deno.test(`whatever a grammar of ${format} calls allows is read as calls, valid by their schemas`, async () => {
    const matcher = await byteMatcher();
    const ajv = new Ajv2020({ strict: false });
    const valid = new Map(
      Object.entries(SCHEMAS).map(([name, schema]) => [name, ajv.compile(schema)]),
    );
    const grammar = await matcher.compileCalls(calls(format));
    const decoder = new TextDecoder("utf-8", { fatal: true });
    const names = new Set<string>();
    const counts = new Set<number>();
    for (let seed = 0; seed < (LONG ? 200 : 40); seed++) {
      const bytes = await grammar.write(wanderer(seed), 600);
      if (bytes === undefined) continue;
      const text = decoder.decode(bytes);
      const found = read(format, text);
      counts.add(found.length);
      for (const [name, args] of found) {
        names.add(name);
        assert(valid.get(name)?.(args), `${format}: ${text}`);
      }
    }
    assertEquals([...names].sort(), Object.keys(SCHEMAS).sort());
    assert(counts.size > 1 && !counts.has(0) && Math.max(...counts) <= 3, `${[...counts]}`);
  });
}

Deno.test("calls are written as the models' templates write them", async () => {
  const matcher = await byteMatcher();
  const add = `{"name": "add", "arguments": {"a": 1, "deep": true}}`;
  const right: Readonly<Record<CallFormat, readonly string[]>> = {
    hermes: [
      `<tool_call>\n${add}\n</tool_call>`,
      `<tool_call>\n${add}\n</tool_call>\n<tool_call>\n${add}\n</tool_call>`,
    ],
    ["llama3_json"]: [`{"name": "add", "parameters": {"a": 1, "deep": true}}`],
    mistral: [`[TOOL_CALLS][${add}]`, `[TOOL_CALLS][${add}, ${add}]`],
    pythonic: [
      `[add(a=1, deep=True), nothing()]`,
      `[weather(city="é", unit=None, days=[7])]`,
    ],
  };
  for (const format of CALL_FORMATS) {
    const grammar = await matcher.compileCalls(calls(format));
    for (const text of right[format]) assert(await grammar.accepts(text), text);
    const first = right[format][0] ?? "";
    const wrong = [
      "Hello",
      "",
      first.replace("1", "100"),
      first.replace("add", "sub"),
      `${first}!`,
      first.replace(/true|True/, "0"),
    ];
    for (const text of wrong) assert(!(await grammar.accepts(text)), `${format}: ${text}`);
  }
  const given = await matcher.compileCalls(calls("mistral", { opened: true, most: 1 }));
  assert(await given.accepts(`[${add}]`));
  assert(!(await given.accepts(`[${add}, ${add}]`)));
});

Deno.test("with a response format the model calls, or answers in its form", async () => {
  const matcher = await byteMatcher();
  const otherwise = { type: "object", properties: { x: { type: "null" } }, required: ["x"] };
  const grammar = await matcher.compileCalls(calls("hermes", { otherwise }));
  assert(await grammar.accepts(`{"x": null}`));
  assert(await grammar.accepts(`<tool_call>\n{"name": "nothing", "arguments": {}}\n</tool_call>`));
  assert(!(await grammar.accepts(`{"x": 1}`)));
});

Deno.test("a schema that no grammar can hold is refused by its function's field", async () => {
  const matcher = await byteMatcher();
  const [first, ...others] = calls("hermes").tools;
  assert(first !== undefined);
  const refused = async (grammar: CallsGrammar, field: string, reason: string) => {
    const error = await assertRejects(() => matcher.compileCalls(grammar), FieldError, reason);
    assertEquals(error.field, field);
  };
  const odd = { type: "object", properties: { a: { not: {} } } };
  const field = "tools[7].function.parameters";
  const withOdd = [...others, { name: "odd", parameters: odd, field }];
  await refused(calls("hermes", { tools: withOdd }), field, "#/properties/a");
  const hyphen = { type: "object", properties: { "a-b": {} } };
  const python = [{ name: "odd", parameters: hyphen, field }];
  await refused(calls("pythonic", { tools: python }), field, "cannot be a keyword");
  await matcher.compileCalls(calls("hermes", { tools: python }));
});
