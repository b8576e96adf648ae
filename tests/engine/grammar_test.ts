/** Grammars: what is refused by name, and what the worker lets through. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { GrammarPool, type GrammarSource, type TokenMatcher } from "../../src/engine/grammar.ts";
import { expressibleSchema } from "../../src/engine/json_schema.ts";
import { EOS, SPECIAL } from "../fakes/tokenizer.ts";
import { alone, harness, read, readOne, request, tokenizer } from "./harness.ts";

/** A grammar ends with EOS even where the request ignores it. */
const NO_EOS = new Map([[EOS, -100]]);

function pool(timeoutMilliseconds = 600_000): GrammarPool {
  const { vocabSize } = tokenizer;
  return new GrammarPool({ tokenizer, vocabSize, stopTokens: [EOS], timeoutMilliseconds });
}

const PERSON = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 8 },
    age: { type: "integer", minimum: 0, maximum: 99 },
    tags: { type: "array", items: { enum: ["elf", "hobbit"] }, maxItems: 2 },
  },
  required: ["name", "age", "tags"],
  additionalProperties: false,
} as const;

Deno.test("schemas that the library would silently widen are refused by keyword and place", () => {
  const cases: [unknown, string][] = [
    ["text", '# is "text", not an object or true'],
    [{ type: "str" }, '#/type is "str"'],
    [{ type: "integer", multipleOf: 3 }, "#/multipleOf is a keyword that the grammar library"],
    [{ not: { type: "string" } }, "#/not"],
    [{ if: {}, then: {} }, "#/if"],
    [{ type: "array", uniqueItems: true }, "#/uniqueItems"],
    [
      { type: "object", properties: { a: { type: "array", contains: {} } } },
      "#/properties/a/contains",
    ],
    [{ type: "object", properties: { a: {} }, required: ["b"] }, '#/required has "b"'],
    [{ type: "string", pattern: "a", minLength: 1 }, "#/minLength cannot stand beside pattern"],
    [{ type: "string", format: "weird" }, '#/format is "weird"'],
    [{ type: "string", minLength: 5, maxLength: 3 }, "#/minLength is 5, above its maximum 3"],
    [{ type: "string", maxLength: 1e9 }, "#/maxLength is 1000000000"],
    [{ allOf: [{ type: "string" }, { minLength: 3 }] }, "#/allOf has 2 schemas"],
    [{ anyOf: [{ type: "string" }], minLength: 2 }, "#/minLength cannot stand beside anyOf"],
    [{ $ref: "http://elsewhere/x" }, "#/$ref"],
    [{ $ref: "#/$defs/none" }, "leads nowhere"],
    [{ minimum: 3 }, "#/minimum needs a type beside it"],
    [{ type: "string", enum: ["a", 1] }, "#/enum has a number where the type is string"],
    [{ enum: [] }, "#/enum is not a list"],
    [false, "# is false"],
  ];
  for (const [schema, message] of cases) {
    assertThrows(() => expressibleSchema(schema), TypeError, message);
  }
});

Deno.test("a schema's annotations go, its gaps are spelled out", () => {
  const schema = {
    title: "T",
    type: "object",
    properties: { a: { type: "array" }, b: { type: "object" } },
  };
  assertEquals(JSON.parse(expressibleSchema(schema)), {
    type: "object",
    properties: {
      a: { type: "array", items: true },
      b: { type: "object", additionalProperties: true },
    },
    additionalProperties: false,
  });
});

Deno.test("a schema that nests without end is refused", () => {
  let schema: unknown = { type: "string" };
  for (let i = 0; i < 40; i++) schema = { type: "array", items: schema };
  assertThrows(() => expressibleSchema(schema), TypeError, "nested deeper than 32");
});

Deno.test("a matcher masks what breaks the grammar, and special tokens always", async () => {
  const grammars = pool();
  try {
    const matcher = await grammars.matcher({ type: "json_schema", schema: PERSON, strict: true });
    const allows = (id: number) => (((matcher.mask[id >> 5] ?? 0) >>> (id & 31)) & 1) === 1;
    assert(allows(tokenizer.tokenId("{") ?? -1) && !allows(tokenizer.tokenId("a") ?? -1));
    for (const id of tokenizer.encode('{"name": "')) {
      assert(allows(id), `token ${id}`);
      matcher.accept(id);
      await matcher.settled();
    }
    assert(allows(tokenizer.tokenId("é") ?? -1) && allows(0xC3), "a character whole or in bytes");
    assert(!allows(SPECIAL) && !allows(EOS));
  } finally {
    grammars.close();
  }
});

Deno.test("text under a schema parses and fits, whatever the temperature and the neighbours", async () => {
  await using own = harness({ grammars: pool() });
  const asked = Array.from({ length: 8 }, (_, i) =>
    request({
      grammar: { type: "json_schema", schema: PERSON, strict: true },
      temperature: i % 2,
      seed: i,
      maxTokens: 200,
      frequencyPenalty: 1,
      ignoreEos: i === 3,
    }));
  const free = read(own.engine.generate(request({ maxTokens: 60, temperature: 1 })));
  const samples = await Promise.all(asked.map((each) => readOne(own.engine.generate(each))));
  await free;
  for (const { text, finishReason } of samples) {
    if (finishReason === "length") continue;
    const value = JSON.parse(text);
    assertEquals(Object.keys(value), ["name", "age", "tags"]);
    assert(Number.isInteger(value.age) && value.age <= 99 && [...value.name].length <= 8, text);
    assert(value.tags.length <= 2);
  }
  assert(samples.filter((sample) => sample.finishReason === "stop").length >= 4);
});

Deno.test("patterns keep to their words and to JSON", async () => {
  await using own = harness({ grammars: pool() });
  const patterns = [
    "^\\d{3}-[A-Z]+x$",
    ".{1,6}",
    "(?:ab|[^a-z])+\\.",
    'say "\\w\\S"',
    "\\s\\/\\\\n?",
  ];
  for (const [i, pattern] of patterns.entries()) {
    const schema = { type: "string", pattern };
    const asked = request({
      grammar: { type: "json_schema", schema, strict: true },
      temperature: 1,
      seed: i,
      maxTokens: 220,
      logitBias: new Map([[tokenizer.tokenId('"') ?? 0, 9], [46, 6], [120, 3]]),
    });
    const { text, finishReason } = await readOne(own.engine.generate(asked));
    assertEquals(finishReason, "stop", text);
    assert(new RegExp(pattern, "u").test(JSON.parse(text)), text);
  }
});

Deno.test("patterns beyond the library are refused with what they have", () => {
  const cases: [string, string][] = [
    ["(?=a)b", "a look-around or a named group"],
    ["(a)\\1", "\\1"],
    ["a{9999}", "more than 256 repetitions"],
    ["[\\n\\t]", "a set of characters that JSON strings do not hold bare"],
    ["a^b", "^ within it"],
    ["[ab", "no end"],
    ["\\p{L}", "\\p"],
  ];
  for (const [pattern, message] of cases) {
    const schema = { properties: { a: { type: "string", pattern } } };
    assertThrows(() => expressibleSchema(schema), TypeError, "#/properties/a/pattern cannot");
    assertThrows(() => expressibleSchema(schema), TypeError, message);
  }
});

Deno.test("JSON mode gives an object", async () => {
  await using own = harness({ grammars: pool(), model: { maxContext: 1024 }, kvMemory: 1e6 });
  const bias = new Map(
    [["}", 6], ['"', 3]].map(([text, bias]) => [tokenizer.tokenId(`${text}`) ?? 0, Number(bias)]),
  );
  const asked = request({
    grammar: { type: "json" },
    temperature: 1,
    seed: 5,
    maxTokens: 900,
    logitBias: bias,
  });
  const sample = await readOne(own.engine.generate(asked));
  assertEquals(sample.finishReason, "stop");
  assertEquals(typeof JSON.parse(sample.text), "object");
});

Deno.test("a preempted row keeps its place in the grammar", async () => {
  const asked = Array.from({ length: 5 }, (_, i) =>
    request({
      prompt: "elf bread ".repeat(3) + i,
      grammar: { type: "json_schema", schema: PERSON, strict: true },
      temperature: 1,
      seed: i,
      maxTokens: 60,
    }));
  const reference = await (async () => {
    await using wide = harness({ grammars: pool() });
    return await Promise.all(asked.map((each) => read(wide.engine.generate(each))));
  })();
  await using own = harness({ grammars: pool(), kvMemory: 1500 });
  const samples = await Promise.all(asked.map((each) => read(own.engine.generate(each))));
  assert(own.engine.stats().preemptions > 0);
  assertEquals(samples, reference);
});

Deno.test("an abort of the library fails its request only, and others go on", async () => {
  await using own = harness({ grammars: pool() });
  const good = request({
    grammar: { type: "json_schema", schema: PERSON, strict: true },
    maxTokens: 80,
  });
  const expected = await readOne(own.engine.generate(good));
  const running = readOne(own.engine.generate(good));
  const schema = { type: "integer", minimum: 5.5, maximum: 5.7 };
  const bad = request({ grammar: { type: "json_schema", schema, strict: true } });
  const refused = () => readOne(own.engine.generate(bad));
  await assertRejects(refused, TypeError, "Cannot use the JSON schema");
  await assertRejects(refused, TypeError, "Cannot use the JSON schema");
  assertEquals(await running, expected);
  assertEquals(await readOne(own.engine.generate(good)), expected);
});

Deno.test("a grammar that takes too long to compile is refused", async () => {
  const grammars = pool(0);
  const asked = () => grammars.matcher({ type: "json" });
  await assertRejects(asked, TypeError, "longer than 0 ms");
  grammars.close();
});

/** A grammar that allows everything, whose masks come only after two more runs of the model. */
class LateGrammars implements GrammarSource {
  readonly #matchers = new Set<LateMatcher>();

  matcher(): Promise<TokenMatcher> {
    const matcher = new LateMatcher();
    this.#matchers.add(matcher);
    return Promise.resolve(matcher);
  }

  /** Says that the model runs once more. */
  run(): void {
    for (const matcher of this.#matchers) matcher.wait--;
  }

  close(): void {}
}

class LateMatcher implements TokenMatcher {
  readonly mask = new Int32Array(Math.ceil(tokenizer.vocabSize / 32)).fill(-1);
  readonly error = undefined;
  wait = 0;

  get ready(): boolean {
    return this.wait <= 0;
  }

  settled(): Promise<void> {
    return this.ready ? Promise.resolve() : new Promise(() => {});
  }

  accept(): void {
    this.wait = 3;
  }

  dispose(): void {}
}

Deno.test("a row whose mask is late is drawn later, with the same text, and holds nobody up", async () => {
  const grammars = new LateGrammars();
  await using own = harness({ grammars, model: { onRun: () => grammars.run() } });
  const late = request({ maxTokens: 6, temperature: 1, seed: 2, ignoreEos: true });
  const free = request({ maxTokens: 30, ignoreEos: true });
  const constrained = {
    ...late,
    sampling: { ...late.sampling, logitBias: NO_EOS, grammar: { type: "json" as const } },
  };
  const unconstrained = { ...late, sampling: { ...late.sampling, logitBias: NO_EOS } };
  const [first, second] = await Promise.all([
    read(own.engine.generate(constrained)),
    read(own.engine.generate(free)),
  ]);
  assertEquals(first, await alone(unconstrained));
  assertEquals(second, await alone(free));
  assert(own.engine.stats().decodeRuns < 34, "the late row takes no steps of its own");
});

Deno.test("an engine without grammars says so", async () => {
  await assertRejects(
    () => alone(request({ grammar: { type: "json" } })),
    TypeError,
    "response_format",
  );
});
