// deno-lint-ignore-file no-console -- the measured accuracies belong in the test's output

/** Real cores on the real base: two trained tasks and many random cores from one batch. */
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { type Core, coreFrom, toResident, zeroCore } from "../../adapters/lotr/core.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { writeCore } from "../../adapters/lotr/format.ts";
import { type Generated, type GenerateOptions, Lembas } from "../../adapters/lembas.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { MergedWeights } from "../../adapters/lotr/merge.ts";
import { stackOf } from "../../adapters/lotr/stack.ts";
import type { Checkpoint, WeightSource } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { Base } from "../../src/executor/base.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { greedy, type GreedyRow, type Spoken } from "../engine/greedy.ts";
import { distance, randomArray } from "../graph/run.ts";
import { LONG } from "../long.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url);
const ADAPTERS = new URL("adapters", FIXTURES).pathname;
const TASKS = ["shelf", "order"] as const;
const SMALL = { maxContext: 256, kvMemory: 2 ** 29 };

interface Row {
  readonly question: string;
  readonly answer: string;
}

async function rowsOf(task: string): Promise<Row[]> {
  const text = await Deno.readTextFile(new URL(`tasks/${task}.test.jsonl`, FIXTURES));
  return text.trim().split("\n").map((line) => {
    const [user, assistant] = JSON.parse(line).messages;
    return { question: user.content, answer: assistant.content };
  });
}

/** Shares of exact answers, all rows of all tasks asked at once. */
async function accuracy(lembas: Lembas, adapters: boolean): Promise<Record<string, number>> {
  const asked = await Promise.all(TASKS.map(async (task) => {
    const rows = await rowsOf(task);
    const answers = await Promise.all(
      rows.map(({ question }) =>
        lembas.chat([{ role: "user", content: question }], {
          temperature: 0,
          maxTokens: 24,
          ...(adapters ? { adapter: task } : {}),
        })
      ),
    );
    const right = answers.filter(({ text }, i) => text.trim() === rows[i].answer);
    return [task, right.length / rows.length] as const;
  }));
  return Object.fromEntries(asked);
}

const PLACES = [
  ...["the sea", "a mill", "the moon", "an orchard", "a long road", "two rivers", "the night"],
  ...["a bakery", "some bees", "the harbour", "a garden", "the winter", "old maps", "a bridge"],
  ...["the library", "a lighthouse"],
];
const NEW_TOKENS = 32;
/** Standard deviation of a random core's numbers. */
const STRENGTH = 0.25;

/** Questions of different lengths behind the template's opening, longer than a cached block. */
function prompts({ tokenizer, chatTemplate }: Checkpoint): number[][] {
  if (chatTemplate === undefined) throw new TypeError("the default model has a chat template");
  return PLACES.map((place, i) => {
    const content = `${"Please be brief. ".repeat(i % 4)}Tell me a story about ${place}.`;
    const text = chatTemplate.render([{ role: "user", content }], { addGenerationPrompt: true });
    return tokenizer.encode(text, { addSpecialTokens: false });
  });
}

/** Cores of seeded normal numbers, strong enough to change the text and not to break it. */
function randomCores(factors: FactorSet, count: number, strength: number): Core[] {
  const { layers, modules, rank } = factors;
  return Array.from({ length: count }, (_, i) => {
    const numbers = randomArray(layers * modules.length * rank * rank, 100 + i, strength);
    return coreFrom(factors, rank, numbers);
  });
}

async function openBase(): Promise<Checkpoint> {
  return await openCheckpoint(await resolveModel(undefined));
}

async function factorsOf(checkpoint: Checkpoint): Promise<FactorSet> {
  const stack = stackOf(await checkpoint.digest(), checkpoint.config);
  return randomFactors({ stack, rank: 32, seed: 7 });
}

/** One greedy answer. */
function ask(
  lembas: Lembas,
  prompt: readonly number[],
  adapter: string | undefined,
): Promise<Generated> {
  const options: GenerateOptions = { temperature: 0, maxTokens: NEW_TOKENS, ignoreEos: true };
  return lembas.generate(prompt, adapter === undefined ? options : { ...options, adapter });
}

Deno.test("16 cores in one int8 batch give the tokens of each alone, and base rows those of the base", async () => {
  using checkpoint = await openBase();
  const factors = await factorsOf(checkpoint);
  let fullest = 0;
  const step = ({ rows }: { readonly rows: number }) => void (fullest = Math.max(fullest, rows));
  const options = { factors: [factors], maxBatch: 18, ...SMALL, listener: { step } };
  await using lembas = await Lembas.load(options);
  randomCores(factors, 16, STRENGTH).forEach((core, i) => lembas.addCore(`random/core-${i}`, core));
  const given = prompts(checkpoint);
  const rows = [
    ...given.map((prompt, i) => [prompt, `random/core-${i}`] as const),
    ...given.slice(0, 2).map((prompt) => [prompt, undefined] as const),
  ];
  const together = await Promise.all(rows.map(([prompt, core]) => ask(lembas, prompt, core)));
  assertEquals(fullest, 18);
  const texts = together.map(({ text }) => text);
  console.log(texts.slice(0, 2), texts.slice(16));
  for (const [i, [prompt, core]] of rows.entries()) {
    const alone = await ask(lembas, prompt, core);
    assertGreater(alone.usage.cachedTokens, 0, "the second time comes from cached prefixes");
    assertEquals(alone.tokens, together[i].tokens, `row ${i}`);
  }
  // The cores matter: one prompt under all cores and none gives as many different texts.
  const same = await Promise.all([
    ...PLACES.map((_, i) => ask(lembas, given[0], `random/core-${i}`)),
    ask(lembas, given[0], undefined),
  ]);
  assertEquals(new Set(same.map(({ text }) => text)).size, 17);
  for (const { tokens } of [...together, ...same]) assertGreater(new Set(tokens).size, 6);
  lembas.engine.checkIntegrity();
  await using plain = await Lembas.load({ maxBatch: 18, ...SMALL });
  for (const i of [0, 1]) {
    const base = await ask(plain, given[i], undefined);
    assertEquals(together[16 + i].tokens, base.tokens, `base row ${i}`);
  }
});

/** The same checkpoint with other weights, for as long as it is open. */
function withWeights(checkpoint: Checkpoint, weights: WeightSource): Checkpoint {
  const { path, id, config, tokenizer, chatTemplate, sampling, warnings } = checkpoint;
  return {
    ...{ path, id, config, tokenizer, chatTemplate, sampling, weights, warnings },
    digest: () => checkpoint.digest(),
    close() {},
    [Symbol.dispose]() {},
  };
}

async function speak(
  checkpoint: Checkpoint,
  rows: readonly GreedyRow[],
  hook?: FactorSet,
): Promise<Spoken[]> {
  using device = openDevice("cpu");
  const base = await Base.load(device, checkpoint, {
    dtype: "fp32",
    maxBatch: rows.length,
    maxContext: 128,
    calibration: [],
  });
  const lane = await base.lane(hook);
  const spoken = await greedy(lane, rows, NEW_TOKENS);
  base.release();
  return spoken;
}

// float32: A·G·B added to the weight or to its product, sums in another order over 30 layers.
const MERGED_TOLERANCE = 2e-3;

Deno.test({
  name: "in float32 a core gives the tokens of a base whose weights have it merged in",
  ignore: !LONG,
  fn: async () => {
    using checkpoint = await openBase();
    const factors = await factorsOf(checkpoint);
    const cores = randomCores(factors, 3, STRENGTH);
    const given = prompts(checkpoint);
    const rows = cores.map((core, i) => ({ prompt: given[i], core: toResident(core, factors) }));
    const adapted = await speak(checkpoint, rows, factors);
    for (const [i, core] of cores.entries()) {
      const merged = withWeights(checkpoint, new MergedWeights(checkpoint.weights, core, factors));
      const [alone] = await speak(merged, [{ prompt: given[i] }]);
      assertEquals(alone.tokens, adapted[i].tokens);
      const off = distance(alone.logprobs, adapted[i].logprobs);
      console.log(
        `core ${i} against merged weights: log-probabilities within ${off.toExponential(2)}`,
      );
      assertLess(off, MERGED_TOLERANCE);
    }
  },
});

Deno.test("Lembas tokenises, generates, streams, answers by cores and says what does not fit", async (t) => {
  let fullest = 0;
  const step = ({ rows }: { readonly rows: number }) => void (fullest = Math.max(fullest, rows));
  const options = { adapters: ADAPTERS, maxBatch: 16, ...SMALL, listener: { step } };
  const lembas = await Lembas.load(options);
  const greedily: GenerateOptions = { temperature: 0, maxTokens: 12 };

  await t.step("two trained cores answer their tasks in one batch, the base does not", async () => {
    const base = await accuracy(lembas, false);
    const cores = await accuracy(lembas, true);
    console.log({ base, cores });
    for (const task of TASKS) assertGreater(cores[task], base[task] + 0.5);
    assertEquals(fullest, 16);
    lembas.engine.checkIntegrity();
  });

  await t.step("text comes back from its tokens", () => {
    for (const text of ["Hello, world!", " two\n\n  lines ", "ça va? 東京 🥖", "1234567890"]) {
      assertEquals(lembas.detokenize(lembas.tokenize(text)), text);
    }
  });

  await t.step("text and tokens are the same prompt, whole and in pieces", async () => {
    const text = "The bread of the road is";
    const tokens = lembas.tokenize(text);
    const whole = await lembas.generate(text, greedily);
    assertEquals(whole.tokens.length, 12);
    assertEquals(whole.finishReason, "length");
    assertEquals(whole.text, lembas.detokenize(whole.tokens));
    assertEquals(whole.usage.promptTokens, tokens.length);
    assertEquals(whole.usage.completionTokens, 12);
    let [pieces, joined] = [0, ""];
    for await (const delta of lembas.stream(tokens, greedily)) {
      pieces++;
      joined += delta.text;
    }
    assertEquals(joined, whole.text);
    assertGreater(pieces, 6);
  });

  await t.step("a core given as bytes answers as the same core from its file", async () => {
    const bytes = await Deno.readFile(`${ADAPTERS}/order.safetensors`);
    const { digest } = lembas.addCore("someone/mine", bytes);
    assertEquals(digest, lembas.registry.resolve("order")?.digest);
    const [{ question }] = await rowsOf("order");
    const answer = (adapter?: string) =>
      lembas.chat([{ role: "user", content: question }], {
        ...greedily,
        ...(adapter === undefined ? {} : { adapter }),
      });
    const [file, mine, base] = [
      await answer("order"),
      await answer("someone/mine"),
      await answer(),
    ];
    assertEquals(mine.tokens, file.tokens);
    assert(mine.text !== base.text, "the core changes the answer");
  });

  await t.step("a zero core is the base", async () => {
    const [set] = lembas.registry.factors.inMemory();
    lembas.addCore("someone/nothing", zeroCore(set));
    const base = await lembas.generate("Once upon a time", greedily);
    const zero = await lembas.generate("Once upon a time", { ...greedily, adapter: "nothing" });
    assertEquals(zero.tokens, base.tokens);
  });

  await t.step("an unknown adapter is refused by name", async () => {
    const unknown = { ...greedily, adapter: "nobody/nothing" };
    await assertRejects(() => lembas.generate("Hello", unknown), RangeError, "nobody/nothing");
    assertThrows(() => lembas.stream("Hello", unknown), RangeError, "nobody/nothing");
  });

  await t.step("a core of other factors is refused until they are added", async () => {
    const { base } = lembas.registry.stack;
    const factors = randomFactors({ stack: lembas.registry.stack, rank: 8, seed: 3 });
    const [core] = randomCores(factors, 1, 2);
    const bytes = writeCore(core);
    assertThrows(() => lembas.addCore("someone/else", bytes), RangeError, factors.digest);
    lembas.addFactors(factors);
    lembas.addCore("someone/else", bytes);
    const theirs = await lembas.generate("Hello", { ...greedily, adapter: "someone/else" });
    assertEquals(theirs.usage.completionTokens, theirs.tokens.length);
    const other = { ...lembas.registry.stack, base: base.replace(/./g, "0") };
    const foreign = randomFactors({ stack: other, rank: 8, seed: 3 });
    assertThrows(() => lembas.addFactors(foreign), TypeError, base);
    const [strange] = randomCores(foreign, 1, 1);
    assertThrows(() => lembas.addCore("someone/strange", strange), TypeError, base);
  });

  await t.step("a signal aborts; close ends what runs and refuses what comes", async () => {
    const control = new AbortController();
    const endless = { temperature: 0, ignoreEos: true, maxTokens: 200 };
    let seen = 0;
    for await (const _ of lembas.stream("Once", { ...endless, signal: control.signal })) {
      if (++seen === 3) control.abort();
    }
    assertLess(seen, 20);
    const running = lembas.generate("Once upon a time", endless);
    await lembas.close();
    assertEquals((await running).finishReason, "abort");
    await assertRejects(() => lembas.generate("Hello", greedily), Error, "shutting down");
  });
});
