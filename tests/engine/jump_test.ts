/**
 * Jump-forward decoding over a model that computes exactly, under the real grammar library: what
 * comes out is what steps bring, in fewer runs.
 */
import { assert, assertEquals, assertLess } from "@std/assert";
import { type Grammar, GrammarPool } from "../../src/grammar/pool.ts";
import { adapter } from "../fakes/adapters.ts";
import { EOS } from "../fakes/tokenizer.ts";
import {
  alone,
  harness,
  type HarnessOptions,
  read,
  request,
  type RequestOptions,
  tokenizer,
} from "./harness.ts";

function pool(foresight: number): GrammarPool {
  const { vocabSize } = tokenizer;
  return new GrammarPool({ tokenizer, vocabSize, stopTokens: [EOS], foresight });
}

/** An engine that jumps, or one that does not. */
function engine(foresight: number, options: HarnessOptions = {}) {
  return harness({ grammars: pool(foresight), ...options });
}

const PERSON = {
  type: "object",
  properties: {
    person: { type: "string", maxLength: 6 },
    road_number: { type: "integer", minimum: 0, maximum: 99 },
    kinds: { type: "array", items: { enum: ["elfish", "hobbitish"] }, maxItems: 2 },
  },
  required: ["person", "road_number", "kinds"],
} as const;

const tools = [
  { name: "get_weather", field: "tools", parameters: { ...PERSON, required: ["person"] } },
  { name: "get_warmer", field: "tools", parameters: { type: "object", properties: {} } },
];

const FORMS: Readonly<Record<string, Grammar>> = {
  schema: { type: "json_schema", schema: PERSON, strict: true },
  calls: { type: "calls", format: "hermes", tools, most: 2, opened: false, otherwise: undefined },
  choice: { type: "choice", field: "guided_choice", choices: ["xy zzy", "xyz vwxyz", "日本 é"] },
  regex: { type: "regex", field: "guided_regex", pattern: "It is \\d{1,3} miles (or|and) more\\." },
  ebnf: {
    type: "ebnf",
    field: "grammar",
    text: 'root ::= "first: " item "; second: " item\nitem ::= [a-c]{1,4} | "none at all"',
  },
  endless: { type: "ebnf", field: "grammar", text: 'root ::= "zyx" root | "zyx"' },
};

const ASKED: readonly RequestOptions[] = [
  {},
  { temperature: 1, seed: 3, logprobs: 2 },
  { temperature: 1, seed: -4, topK: 5, presencePenalty: 0.5, frequencyPenalty: 0.5 },
  { temperature: 0.7, seed: 5, repetitionPenalty: 1.4, logprobs: 0, n: 2 },
  { temperature: 1, seed: 6, topP: 0.8, maxTokens: 7, badWords: [[111, 109]] },
  { temperature: 1, seed: 7, stop: ["or", "number", " at"], includeStopInOutput: true },
  { seed: 8, logitBias: new Map([[EOS, -100]]), stopTokenIds: [46, 93], ignoreEos: true },
];

for (const [name, grammar] of Object.entries(FORMS)) {
  Deno.test(`what a grammar forces is jumped over, and ${name} comes as in steps`, async () => {
    await using steps = engine(0);
    await using jumps = engine(6);
    for (const [i, options] of ASKED.entries()) {
      const asked = request({ maxTokens: 90, prompt: `hello ${i}`, ...options, grammar });
      const [expected, found] = [steps.engine.generate(asked), jumps.engine.generate(asked)];
      assertEquals(await read(found), await read(expected));
      assertEquals(found.usage, expected.usage);
    }
    const [before, after] = [steps.engine.stats(), jumps.engine.stats()];
    assert(after.jumpedTokens > 0, `${after.foreseenTokens} tokens foreseen in vain`);
    assert(after.foreseenTokens >= after.jumpedTokens);
    assertLess(after.decodeRuns + after.jumpRuns, before.decodeRuns);
    assertEquals(after.generationTokens, before.generationTokens);
    assertEquals([before.jumpRuns, before.foreseenTokens, before.jumpedTokens], [0, 0, 0]);
  });
}

Deno.test("rows that jump, are preempted or leave have the texts of steps", async () => {
  const forms = Object.values(FORMS);
  const asked = Array.from({ length: 12 }, (_, i) =>
    request({
      prompt: "elf bread ".repeat(3) + i,
      ...ASKED[i % ASKED.length],
      n: 1,
      maxTokens: 60,
      adapter: i % 3 === 0 ? adapter("tenant-a/core@1", "factors-a") : undefined,
      grammar: forms[i % 2 === 0 ? 0 : i % forms.length],
    }));
  await using steps = engine(0);
  const expected = await Promise.all(asked.map((each) => read(steps.engine.generate(each))));
  await using own = engine(6, { kvMemory: 1500 });
  const control = new AbortController();
  const grammar = FORMS.schema;
  const leaving = own.engine.generate(request({ grammar, maxTokens: 60, signal: control.signal }));
  const found = asked.map((each) => read(own.engine.generate(each)));
  for await (const _ of leaving) control.abort();
  assertEquals(await Promise.all(found), expected);
  own.engine.checkIntegrity();
  const { preemptions, jumpedTokens, finished, kvBytes } = own.engine.stats();
  assert(preemptions > 0 && jumpedTokens > 0, `${preemptions} and ${jumpedTokens}`);
  assertEquals([finished.abort, finished.error, kvBytes], [1, 0, 0]);
});

Deno.test("nobody jumps over fewer tokens than there are rows running", async () => {
  const grammar = FORMS.choice;
  await using own = engine(3, {
    model: { maxBatch: 4, maxContext: 100_000 },
    kvMemory: 10_000_000,
  });
  const control = new AbortController();
  const endless = { maxTokens: 99_000, ignoreEos: true, signal: control.signal };
  const others = [1, 2, 3].map((i) =>
    read(own.engine.generate(request({ prompt: `${i}`, ...endless })))
  );
  await read(own.engine.generate(request({ grammar, maxTokens: 20 })));
  assertEquals(own.engine.stats().jumpRuns, 0);
  control.abort();
  await Promise.all(others);
  await read(own.engine.generate(request({ grammar, maxTokens: 20 })));
  assert(own.engine.stats().jumpRuns > 0);
});

Deno.test("a jump that fails ends its own row alone", async () => {
  let stumbles = true;
  const onRun = ({ kind }: { readonly kind: string }) => {
    if (kind === "draft" && stumbles) throw new Error("the device stumbled");
  };
  await using own = engine(8, { model: { onRun } });
  const other = request({ maxTokens: 60, ignoreEos: true });
  const beside = read(own.engine.generate(other));
  const asked = request({ grammar: FORMS.regex, maxTokens: 60 });
  const failed = await read(own.engine.generate(asked)).then(() => undefined, (error) => error);
  assertEquals((failed as Error | undefined)?.message, "the device stumbled");
  assertEquals(await beside, await alone(other));
  stumbles = false;
  assertEquals(
    await read(own.engine.generate(asked)),
    await alone(asked, { grammars: pool(0) }),
  );
});
