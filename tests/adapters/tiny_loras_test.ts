/** LoRAs that PEFT saved, served by `Lembas` over the tiny model: beside PEFT's logits, and each other. */
import { assert, assertEquals, assertLess, assertNotEquals, assertRejects } from "@std/assert";
import { Lembas } from "../../adapters/lembas.ts";
import { decode } from "../../adapters/lotr/format.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import type { LembasOptions } from "../../adapters/parts.ts";
import { parseSafetensors } from "../../src/checkpoint/formats/safetensors.ts";
import type { TokenLogprob } from "../../src/engine/request/request.ts";
import { DEFAULT_SAMPLING } from "../../src/engine/request/sampling.ts";
import { folderOf, randomCore } from "../engine/tiny.ts";

const FIXTURES = new URL("../fixtures/loras/", import.meta.url).pathname;
const CASES = ["plain", "every", "regex", "layers"];
const OPTIONS: LembasOptions = {
  model: folderOf("llama"),
  dtype: "fp32",
  maxBatch: 6,
  maxContext: 96,
  kvMemory: 2 ** 24,
  adapters: FIXTURES,
};
const ASKED = { temperature: 0, maxTokens: 12, ignoreEos: true };
/**
 * Of log probabilities: float32 sums in another order than PyTorch's, whose own, over weights that PEFT
 * merged in float32, are up to 1e-4 from float64's.
 */
const TOLERANCE = 2.5e-4;

function tensorOf(path: string, name: string): Float32Array {
  const tensor = parseSafetensors(Deno.readFileSync(path)).tensors.get(name);
  assert(tensor !== undefined);
  return decode(name, tensor);
}

/** The ids of the model's fixture. */
function fixtureIds(): number[] {
  const { tensors } = parseSafetensors(
    Deno.readFileSync(`${folderOf("llama")}expected.safetensors`),
  );
  const data = tensors.get("ids")?.data.slice().buffer;
  assert(data !== undefined);
  return Array.from(new BigInt64Array(data), Number);
}

const IDS = fixtureIds();

async function promptLogprobs(lembas: Lembas, name: string): Promise<readonly TokenLogprob[]> {
  const generation = lembas.engine.generate({
    ...{ id: name, tenant: "default", prompt: IDS, n: 1, priority: 0, promptLogprobs: 5 },
    signal: undefined,
    adapter: lembas.registry.resolve(name),
    sampling: { ...DEFAULT_SAMPLING, maxTokens: 0 },
  });
  for await (const _ of generation);
  return generation.promptLogprobs ?? [];
}

/** log softmax of a row of logits. */
function logSoftmax(logits: Float32Array): Float64Array {
  const most = Math.max(...logits);
  const sum = logits.reduce((total, x) => total + Math.exp(x - most), 0);
  return Float64Array.from(logits, (x) => x - most - Math.log(sum));
}

Deno.test("each LoRA gives the logits of the weights that PEFT merged", async () => {
  await using lembas = await Lembas.load(OPTIONS);
  assertEquals(lembas.registry.list().map(({ model }) => model), [
    "default/every",
    "default/layers",
    "default/plain",
    "default/regex",
  ]);
  for (const name of CASES) {
    const found = await promptLogprobs(lembas, name);
    assertEquals(found.length, IDS.length - 1);
    const logits = tensorOf(`${FIXTURES}${name}/expected.safetensors`, "logits");
    const width = logits.length / IDS.length;
    for (const [at, { token, logprob, top }] of found.entries()) {
      const wanted = logSoftmax(logits.subarray(at * width, (at + 1) * width));
      for (const one of [{ token, logprob }, ...top]) {
        assertLess(Math.abs(one.logprob - wanted[one.token]), TOLERANCE, `${name}, token ${at}`);
      }
    }
  }
});

Deno.test("LoRAs, cores and the base say in one batch what each says alone", async () => {
  for (const dtype of ["fp32", "int8"] as const) {
    await using lembas = await Lembas.load({ ...OPTIONS, dtype });
    const factors = randomFactors({ stack: lembas.registry.stack, rank: 4 });
    lembas.addFactors(factors);
    lembas.addCore("default/core", randomCore(factors, 1, 3));
    const ask = (adapter: string | undefined) =>
      lembas.generate(IDS.slice(0, 9), { ...ASKED, ...(adapter === undefined ? {} : { adapter }) });
    const adapters = [...CASES, "core", undefined];
    const alone: string[] = [];
    for (const adapter of adapters) alone.push((await ask(adapter)).tokens.join());
    assert(new Set(alone).size > 4, `${dtype}: they must differ to be told apart`);
    const together = await Promise.all(adapters.map(ask));
    assertEquals(together.map(({ tokens }) => tokens.join()), alone, dtype);
    lembas.cores.checkIntegrity();
  }
});

Deno.test("A, B and A again under one name are each what their files hold, cached prefixes and all", async () => {
  await using lembas = await Lembas.load(OPTIONS);
  const { directory } = lembas;
  assert(directory !== undefined);
  const say = async () => {
    const { tokens, usage } = await lembas.generate(IDS, { ...ASKED, adapter: "a/x" });
    return { tokens, cached: usage.cachedTokens };
  };
  const texts: (readonly number[])[] = [];
  for (const path of ["plain", "every", "plain", "every"]) {
    await directory.load({ name: "a/x", path });
    const first = await say();
    assertEquals((await say()).tokens, first.tokens);
    texts.push(first.tokens);
  }
  assertEquals([texts[0], texts[1]], [texts[2], texts[3]]);
  assertNotEquals(texts[0], texts[1]);
  const factors = randomFactors({ stack: lembas.registry.stack, rank: 4 });
  lembas.addFactors(factors);
  lembas.addCore("a/x", randomCore(factors, 1, 3));
  const core = await say();
  assertNotEquals(core.tokens, texts[0]);
  await directory.load({ name: "a/x", path: "plain" });
  assertEquals((await say()).tokens, texts[0]);
});

Deno.test("a LoRA unloaded in flight answers to the end, and then is not there", async () => {
  await using lembas = await Lembas.load(OPTIONS);
  const asked = { ...ASKED, maxTokens: 40, adapter: "default/plain" };
  const { tokens: whole } = await lembas.generate(IDS.slice(0, 9), asked);
  const tokens: number[] = [];
  for await (const delta of lembas.stream(IDS.slice(0, 9), asked)) {
    if (tokens.length === 0) lembas.registry.remove("default/plain");
    tokens.push(...delta.tokens);
  }
  assertEquals(tokens, whole);
  await assertRejects(
    async () => await lembas.generate(IDS, asked),
    RangeError,
    "none of that name",
  );
});
