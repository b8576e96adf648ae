/** The grammar pool: masks through the engine, and one tenant's schema beside another's request. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { TokenMatcher } from "../../src/grammar/matcher.ts";
import {
  GrammarPool,
  type GrammarPoolOptions,
  type GrammarSource,
} from "../../src/grammar/pool.ts";
import { FieldError, OverloadedError } from "../../src/util/errors.ts";
import { EOS, SPECIAL } from "../fakes/tokenizer.ts";
import { alone, harness, read, readOne, request, tokenizer } from "../engine/harness.ts";

/** A grammar ends with EOS even where the request ignores it. */
const NO_EOS = new Map([[EOS, -100]]);

function pool(options: Partial<GrammarPoolOptions> = {}): GrammarPool {
  const { vocabSize } = tokenizer;
  const timeoutMilliseconds = 600_000;
  return new GrammarPool({
    tokenizer,
    vocabSize,
    stopTokens: [EOS],
    timeoutMilliseconds,
    ...options,
  });
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

Deno.test("a matcher masks what breaks the grammar, and special tokens always", async () => {
  const grammars = pool();
  try {
    const matcher = await grammars.matcher(
      { type: "json_schema", schema: PERSON, strict: true },
      "ada",
    );
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
    "^.{1,6}$",
    "^(?:ab|[^a-z])+\\.$",
    '^say "\\w\\S"$',
    "^\\s\\/\\\\n?$",
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

/** A schema that takes the library many seconds to compile, even with the fake tokenizer. */
const SLOW = {
  anyOf: Array.from({ length: 20 }, (_, branch) => ({
    type: "object",
    properties: Object.fromEntries(
      Array.from({ length: 120 }, (_, i) => [`${String.fromCharCode(97 + branch)}${i}`, {}]),
    ),
  })),
};

Deno.test("a pattern that is none is refused by name and place, and others go on", async () => {
  await using own = harness({ grammars: pool() });
  const good = request({
    grammar: { type: "json_schema", schema: PERSON, strict: true },
    maxTokens: 80,
  });
  const expected = await readOne(own.engine.generate(good));
  const running = readOne(own.engine.generate(good));
  const schema = { type: "object", properties: { a: { type: "string", pattern: "(a" } } };
  const bad = request({ grammar: { type: "json_schema", schema, strict: true } });
  for (let turn = 0; turn < 2; turn++) {
    const error = await assertRejects(() => readOne(own.engine.generate(bad)), FieldError);
    assertEquals(error.field, "response_format.json_schema.schema");
    assert(error.message.includes("#/properties/a/pattern"), error.message);
  }
  assertEquals(await running, expected);
  assertEquals(await readOne(own.engine.generate(good)), expected);
});

Deno.test("a schema that takes too long may be sent again, and takes nobody's matcher along", async () => {
  const grammars = pool({ timeoutMilliseconds: 3000, threads: 1 });
  try {
    const asked = { type: "json_schema", schema: PERSON, strict: true } as const;
    const living = await grammars.matcher(asked, "ada");
    for (const id of tokenizer.encode('{"name": "')) {
      living.accept(id);
      await living.settled();
    }
    const mask = living.mask.slice();
    const slow = { type: "json_schema", schema: SLOW, strict: true } as const;
    const first = grammars.matcher(slow, "bob");
    const waiting = grammars.matcher({ type: "json" }, "cy");
    const error = await assertRejects(() => first, OverloadedError, "longer than 3000 ms");
    assert(error.retryAfterSeconds > 0);
    await assertRejects(() => grammars.matcher(slow, "bob"), OverloadedError);
    (await waiting).dispose();
    assertEquals(living.error, undefined);
    const [letter = 0] = tokenizer.encode("x");
    living.accept(letter);
    await living.settled();
    assertEquals(living.error, undefined);
    assertEquals(living.mask, mask);
  } finally {
    grammars.close();
  }
});

Deno.test("other tenants' grammars come while one tenant's slow ones compile", async () => {
  const grammars = pool({ threads: 2 });
  try {
    let slow = 0;
    const many = SLOW.anyOf.slice(0, 3).map(({ type, properties }) => {
      const some = Object.fromEntries(Object.entries(properties).slice(0, 60));
      const schema = { type, properties: some };
      return grammars.matcher({ type: "json_schema", schema, strict: true }, "bob")
        .then(() => slow++);
    });
    const others = await Promise.all(["ada", "cy"].map((tenant, i) =>
      grammars.matcher(
        { type: "json_schema", schema: { enum: [tenant, i] }, strict: true },
        tenant,
      )
    ));
    assertEquals(others.map(({ error }) => error), [undefined, undefined]);
    assert(slow < 3, "the slow ones were all compiled first");
    await Promise.all(many);
  } finally {
    grammars.close();
  }
});

Deno.test("a tenant's schemas that wait are bounded, another's still come", async () => {
  const grammars = pool();
  try {
    const asked = Array.from(
      { length: 30 },
      (_, i) =>
        grammars.matcher({ type: "json_schema", schema: { const: i }, strict: true }, "bob")
          .then(() => "had", (error) => error instanceof OverloadedError ? error.scope : error),
    );
    await grammars.matcher({ type: "json" }, "ada");
    const ends = await Promise.all(asked);
    assertEquals(new Set(ends), new Set(["had", "tenant"]));
    assertEquals(ends.filter((end) => end === "had").length, 17);
  } finally {
    grammars.close();
  }
});

Deno.test("a thread keeps so many grammars, and a matcher outlives its grammar's leaving", async () => {
  const grammars = pool({ threads: 1, cacheSize: 2 });
  try {
    const of = (value: string) =>
      grammars.matcher({ type: "json_schema", schema: { const: value }, strict: true }, "ada");
    const first = await of("a");
    const others = [await of("b"), await of("c"), await of("d"), await of("a")];
    for (const id of tokenizer.encode('"a"')) {
      first.accept(id);
      await first.settled();
    }
    assertEquals(first.error, undefined);
    const [word] = first.mask.slice(EOS >> 5);
    assertEquals(((word ?? 0) >>> (EOS & 31)) & 1, 1);
    assert(others.every(({ ready }) => ready));
  } finally {
    grammars.close();
  }
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
  readonly foresight = 0;
  readonly foreseen = [];
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
