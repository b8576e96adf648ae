/** JSON schemas as grammars: what is refused, by keyword and place, and what is accepted. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { compileSchema } from "../../src/grammar/compile_schema.ts";
import { FORMATS } from "../../src/grammar/schema/formats.ts";
import { BY_TYPE, type Keyword, WHOLE } from "../../src/grammar/schema/keywords.ts";
import { SchemaError } from "../../src/grammar/schema/schema_error.ts";
import { type ByteMatcher, byteMatcher } from "./byte_matcher.ts";

/** A schema, values or texts (`json:…`) that it accepts, and ones that it does not. */
type Case = readonly [schema: unknown, right: readonly unknown[], wrong: readonly unknown[]];

async function check(matcher: ByteMatcher, [schema, right, wrong]: Case): Promise<void> {
  const grammar = await matcher.compile(schema);
  for (const [values, expected] of [[right, true], [wrong, false]] as const) {
    for (const value of values) {
      const text = typeof value === "string" && value.startsWith("json:")
        ? value.slice("json:".length)
        : JSON.stringify(value);
      assertEquals(await grammar.accepts(text), expected, `${JSON.stringify(schema)}: ${text}`);
    }
  }
}

async function checkAll(cases: readonly Case[]): Promise<void> {
  const matcher = await byteMatcher();
  for (const each of cases) await check(matcher, each);
}

Deno.test("what says nothing of the value is heard nowhere", async () => {
  const said = { strict: true, example: 1, description: "d", default: 2, $comment: "c" };
  const schema = { type: "object", ...said, properties: { a: { type: "integer", ...said } } };
  await checkAll([[schema, [{ a: 3 }, {}], [{ a: "3" }, { b: 1 }]]]);
});

Deno.test("what a grammar cannot hold is refused by keyword and place", () => {
  const cases: [unknown, string][] = [
    ["text", '# is "text", not an object or a boolean'],
    [{ type: "str" }, '#/type is "str"'],
    [{ type: "constructor" }, '#/type is "constructor"'],
    [{ constructor: 1 }, "#/constructor is a keyword that a grammar cannot express"],
    [{ toString: {} }, "#/toString is a keyword"],
    [JSON.parse('{"__proto__":1}'), "#/__proto__ is a keyword"],
    [{ type: "string", toString: {} }, "#/toString is a keyword"],
    [{ type: "string", format: "constructor" }, '#/format is "constructor"'],
    [{ not: { type: "string" } }, "#/not"],
    [{ if: {}, then: {} }, "#/if"],
    [{ type: "array", uniqueItems: true }, "#/uniqueItems"],
    [
      { type: "object", properties: { a: { type: "array", contains: {} } } },
      "#/properties/a/contains",
    ],
    [{ type: "object", properties: { a: {} }, required: ["b"] }, '#/required has "b"'],
    [
      { type: "object", properties: {}, required: ["constructor"] },
      '#/required has "constructor"',
    ],
    [{ type: "string", format: "weird" }, '#/format is "weird"'],
    [{ type: "string", minLength: 5, maxLength: 3 }, "#/minLength is 5, above its maximum 3"],
    [{ type: "string", maxLength: 1e9 }, "#/maxLength is 1000000000"],
    [{ allOf: [{ type: "string" }, { minLength: 3 }] }, "#/allOf has 2 schemas"],
    [{ anyOf: [{ type: "string" }], minLength: 2 }, "#/minLength cannot stand beside anyOf"],
    [{ $ref: "http://elsewhere/x" }, "#/$ref"],
    [{ $ref: "#/$defs/none" }, "#/$ref leads nowhere"],
    [{ $ref: "#/constructor" }, "#/$ref leads nowhere"],
    [{ $ref: "#/$defs/a%" }, "#/$ref is"],
    [{ anyOf: [{ $ref: "#" }, { type: "null" }] }, "# refers to itself"],
    [{ minimum: 3 }, "#/minimum needs a type beside it"],
    [{ type: "number", minimum: "3" }, '#/minimum is "3", not a number'],
    [{ type: "integer", multipleOf: 0 }, "#/multipleOf is 0"],
    [{ type: "integer", multipleOf: 1234 }, "#/multipleOf is 1234"],
    [{ type: "integer", minimum: 5.5, maximum: 5.7 }, "# allows no value"],
    [{ type: "string", enum: ["a", 1] }, "#/enum has a number where the type is string"],
    [{ enum: [] }, "#/enum is not a list"],
    [false, "# allows no value"],
    [{ properties: { "a/b~": { type: "x" } } }, '#/properties/a~1b~0/type is "x"'],
    [
      { type: "object", properties: { a: { $ref: "#" } }, required: ["a"] },
      "# allows no value",
    ],
    [
      { type: "object", properties: { a: {} }, additionalProperties: true, minProperties: 2 },
      "#/minProperties is 2",
    ],
  ];
  for (const [schema, message] of cases) {
    assertThrows(() => compileSchema(schema), SchemaError, message, JSON.stringify(schema));
  }
});

/** README.md's table. */
function keywordTable(): string {
  const NUMBER = BY_TYPE.get("number") ?? [];
  const row = (type: string, name: string, note = "exact") => `| ${type} | ${name} | ${note} |`;
  const rows = (type: string, keywords: readonly Keyword[]) =>
    keywords.map(({ name, note }) => row(type, `\`${name}\``, note));
  const typed = [...BY_TYPE].flatMap(([type, keywords]) =>
    keywords === NUMBER ? [] : rows(type, keywords)
  );
  const narrower = [...FORMATS].flatMap(([name, format]) =>
    format.narrower === undefined ? [] : [row("string", `format \`${name}\``, format.narrower)]
  );
  return [
    "| of | keyword | held |",
    "| --- | --- | --- |",
    ...rows("any", WHOLE),
    ...rows("number", NUMBER),
    ...typed,
    ...narrower,
  ].join("\n");
}

Deno.test("README.md's table of keywords is the code's", async () => {
  const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  const cells = (text: string) => text.replaceAll(/ +/g, " ").replaceAll(/-{3,}/g, "---");
  assert(cells(readme).includes(keywordTable()), keywordTable());
});

Deno.test("a schema that nests, repeats or counts without end is refused", () => {
  let schema: unknown = { type: "string" };
  for (let i = 0; i < 40; i++) schema = { type: "array", items: schema };
  assertThrows(() => compileSchema(schema), SchemaError, "nested deeper than 32");
  const words = Array.from({ length: 4 }, (_, i) => ({
    type: "string",
    pattern: `^[a-${"wxyz"[i]}\u00E0-\u00FF\u0400-\u0FFF]{200}$`,
  }));
  assertThrows(() => compileSchema({ anyOf: words }), SchemaError, "counts characters");
  const rows = Object.fromEntries(
    Array.from({ length: 150 }, (_, i) => [`p${i}`, { type: "null" }]),
  );
  assertThrows(() => compileSchema({ properties: rows }), SchemaError, "#/properties has 150");
  const pattern = "(?:a|b)*a(?:a|b){13}";
  assertThrows(() => compileSchema({ type: "string", pattern }), SchemaError, "more than 4096");
});

Deno.test("names of properties may have quotes, backslashes and line breaks", () =>
  checkAll([
    [
      {
        type: "object",
        properties: { 'a"\\\n\t\u0001é/~': { const: 1 } },
        required: ['a"\\\n\t\u0001é/~'],
      },
      [{ 'a"\\\n\t\u0001é/~': 1 }],
      [{}, { a: 1 }],
    ],
    [{ enum: ['"', "\\", "\n", "\u2028", "\u007F"] }, ['"', "\\", "\n", "\u2028", "\u007F"], ["n"]],
    [{ properties: { "": { type: "null" } } }, [{ "": null }, {}], [{ "": 1 }]],
  ]));

Deno.test("no key stands twice beside its own name, and counts are of different keys", () =>
  checkAll([
    [
      { type: "object", properties: { a: { type: "integer" } }, additionalProperties: true },
      [{ a: 1, b: true }, { ab: 1 }, { "": 1 }, {}, { b: 1, c: 2 }],
      ['json:{"a":1,"a":true}', 'json:{"b":1,"a":true}', 'json:{"\\u0061":true}'],
    ],
    [
      { type: "object", properties: { a: {}, b: {}, c: {} }, minProperties: 2, maxProperties: 2 },
      [{ a: 1, b: 2 }, { a: 1, c: 2 }, { b: 1, c: 1 }],
      [{}, { a: 1 }, { a: 1, b: 1, c: 1 }, 'json:{"a":1,"a":1}'],
    ],
    [{ type: "object", minProperties: 1, maxProperties: 2 }, [{ a: 1 }, { a: 1, b: 1 }], [
      {},
      { a: 1, b: 2, c: 3 },
    ]],
  ]));

Deno.test("oneOf is of schemas with nothing in common", async () => {
  const overlapping = [
    [{ type: "integer", minimum: 0, maximum: 9 }, { type: "integer", minimum: 5, maximum: 20 }],
    [{ type: "integer" }, { type: "number" }],
    [{ type: "string" }, { const: "a" }],
    [{ type: "string", pattern: "^a" }, { type: "string", pattern: "b$" }],
    [{ properties: { a: { type: "null" } } }, { type: "string" }],
    [
      { type: "object", properties: { a: {} }, required: ["a"] },
      { type: "object", properties: { b: {} } },
    ],
    [true, { type: "null" }],
  ];
  for (const oneOf of overlapping) {
    assertThrows(
      () => compileSchema({ oneOf }),
      SchemaError,
      "#/oneOf/1 may have values in common",
    );
  }
  const kind = (name: string) => ({
    type: "object",
    properties: { kind: { const: name }, [name]: { type: "integer" } },
    required: ["kind"],
  });
  await checkAll([
    [
      { oneOf: [{ type: "integer", maximum: 4 }, { type: "integer", minimum: 5 }] },
      [4, 5, -1],
      [4.5],
    ],
    [{ oneOf: [kind("a"), kind("b")] }, [{ kind: "a", a: 1 }, { kind: "b", b: 1 }], [
      { kind: "a", b: 1 },
      { kind: "c" },
    ]],
    [
      { oneOf: [{ type: "string", pattern: "^a" }, { type: "string", pattern: "^b" }] },
      ["a", "bc"],
      ["c", ""],
    ],
  ]);
});

Deno.test("formats let no wrong string through", () =>
  checkAll([
    [
      { type: "string", format: "date" },
      ["2024-02-29", "2000-02-29", "1999-12-31"],
      ["2024-02-30", "1900-02-29", "2023-02-29", "2024-04-31", "2024-13-01", "2024-1-1"],
    ],
    [
      { type: "string", format: "date-time" },
      ["2024-02-29T23:59:59Z", "2024-01-01T00:00:00.123+01:30"],
      ["2024-02-30T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00"],
    ],
    [
      { type: "string", format: "ipv4" },
      ["1.2.3.4", "255.255.255.0"],
      ["1.2.3.04", "256.1.1.1", "1.2.3", "1.2.3.4.5"],
    ],
    [{ type: "string", format: "ipv6" }, ["::1", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "fe80::"], [
      "1::2::3",
      "1:2:3:4:5:6:7",
      "12345::",
      ":::",
    ]],
    [
      { type: "string", format: "uuid", pattern: "^f" },
      ["f0000000-0000-4000-8000-000000000000"],
      ["00000000-0000-4000-8000-000000000000", "f"],
    ],
  ]));

Deno.test("each format has strings of its own", () => {
  for (const format of FORMATS.keys()) assert(compileSchema({ type: "string", format }).weight > 0);
});

Deno.test("arrays count their items, the first ones by place", () =>
  checkAll([
    [{ type: "array", items: { type: "integer" }, minItems: 2, maxItems: 3 }, [[1, 2], [1, 2, 3]], [
      [],
      [1],
      [1, 2, 3, 4],
    ]],
    [
      { prefixItems: [{ type: "null" }, { type: "boolean" }], items: { type: "integer" } },
      [[], [null], [null, true], [null, true, 1, 2]],
      [[1], [null, 1], [null, true, null]],
    ],
    [{ prefixItems: [{ const: 1 }], items: false, minItems: 1 }, [[1]], [[], [1, 1]]],
    [{ type: "array", maxItems: 0 }, [[]], [[1]]],
    [{ type: "array", items: false }, [[]], [[1]]],
    [{ type: "array", minItems: 300, maxItems: 302 }, [Array(300).fill(0), Array(302).fill(0)], [
      Array(299).fill(0),
      Array(303).fill(0),
    ]],
  ]));

Deno.test("references may be recursive, and lead past escapes", () =>
  checkAll([
    [
      {
        $ref: "#/$defs/tree",
        $defs: {
          tree: {
            type: "object",
            properties: {
              value: { type: "integer" },
              children: { type: "array", items: { $ref: "#/$defs/tree" } },
            },
            required: ["value"],
          },
        },
      },
      [{ value: 1 }, { value: 1, children: [{ value: 2, children: [] }] }],
      [{}, { value: 1, children: [1] }],
    ],
    [{ $ref: "#/$defs/a%25b~1c", $defs: { "a%b/c": { const: 1 } } }, [1], [2]],
  ]));

Deno.test("every string is valid UTF-8 and valid JSON", async () => {
  const grammar = await (await byteMatcher()).compile({});
  for (
    const text of ["a", "é", "\u0800", "\uFFFF", "🙂", "\u{10FFFF}", '"', "\\", "\n", "\u0001"]
  ) {
    assert(await grammar.accepts(JSON.stringify(text)), text);
  }
  for (const text of ['"\n"', '"\\x"', '"\\u12"', '"', "'a'", "01", "-0", "1.", "[1,]", "nul"]) {
    assert(!await grammar.accepts(text), text);
  }
});

Deno.test("a grammar weighs what its blanks take, too", () => {
  // compiled for 49,152 tokens these took 2.6 and 13.8 MB: 11 and 60 masks of 0.23 MB
  const booleans = (names: readonly string[]) =>
    compileSchema({
      type: "object",
      properties: Object.fromEntries(names.map((name) => [name, { type: "boolean" }])),
      required: names,
      additionalProperties: false,
    }).weight;
  const [one, four] = [booleans(["a"]), booleans(["a", "b", "c", "d"])];
  assert(one > 10 && one < 24, `${one}`);
  assert(four > 50 && four < 90, `${four}`);
});
