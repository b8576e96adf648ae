/**
 * The real executor on tiny random checkpoints, in float32: however a text is cut into runs and
 * whoever shares them, a row says the same.
 *
 * Tolerance of log-probabilities: float32 sums in another order (other batch sizes take other matrix
 * kernels), amplified by two layers; logits are of size 1 to 5.
 */
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { toResident } from "../../adapters/lotr/core.ts";
import { MergedWeights } from "../../adapters/lotr/merge.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { ResidentCore } from "../../src/executor/model.ts";
import { MODULES } from "../../src/models/hook.ts";
import type { Device } from "../../src/runtime/device.ts";
import { distance } from "../graph/run.ts";
import { Expected } from "../models/expected.ts";
import { greedy, type GreedyRow, type Spoken } from "../engine/greedy.ts";
import { logSoftmax } from "../engine/naive_sampler.ts";
import { folderOf, randomCore, randomPrompt, Tiny } from "../engine/tiny.ts";

const TOLERANCE = 1e-4;
const ARCHITECTURES = [
  "llama",
  "llama-bias",
  "llama-yarn",
  "mistral",
  "qwen2",
  "qwen3",
  "gemma2",
  "gemma3",
  "glm4",
  "granite",
  "olmo2",
  "phi3",
  "smollm3",
];

/** Log-probabilities of the whole vocabulary at a row of the last step's logits. */
async function distributionAt(model: Executor, row = 0): Promise<Float64Array> {
  const logprobs = model.vocabSize;
  const [{ top = [] }] = await model.sample([{ row, temperature: 0, uniform: 0, logprobs }]);
  const out = new Float64Array(logprobs).fill(NaN);
  for (const { token, logprob } of top) out[token] = logprob;
  return out;
}

/** Runs a text through slot 0 in chunks of these sizes; the distribution after each. */
async function inChunks(
  model: Executor,
  tokens: readonly number[],
  sizes: readonly number[],
  slot = 0,
): Promise<Float64Array[]> {
  const found: Float64Array[] = [];
  let past = 0;
  for (const size of sizes) {
    const part = tokens.slice(past, past + size);
    await model.prefill([{ slot, tokens: part, past, last: past + size === tokens.length }]);
    found.push(await distributionAt(model));
    past += size;
  }
  assertEquals(past, tokens.length);
  return found;
}

Deno.test("a chunk's scores fit into 64 MiB, however many tokens are before it", async () => {
  using tiny = await Tiny.open("qwen2");
  const model = await tiny.base.lane();
  assertEquals(model.chunkTokens(0), 512);
  const { numHeads } = tiny.base.config;
  for (let past = 0; past < 2 ** 18; past += 4097) {
    const tokens = model.chunkTokens(past);
    assert(tokens === 512 || numHeads * tokens * (past + tokens) * 4 <= 2 ** 26, `${past}`);
    assert(tokens >= 16, `${tokens}`);
  }
  assert(model.chunkTokens(2 ** 17) < 512);
});

Deno.test("a text is scored in parts of any size as transformers does, each token", async () => {
  using tiny = await Tiny.open("qwen2");
  const model = await tiny.base.lane();
  const expected = new Expected(`${folderOf("qwen2")}expected.safetensors`);
  const [ids, wanted] = [expected.integers("ids"), expected.floats("logits")];
  for (const size of [1, 5, ids.length]) {
    for (let past = 0; past < ids.length; past += size) {
      const part = ids.slice(past, past + size);
      using logits = tiny.device.tensor("float32", [part.length, model.vocabSize]);
      await model.logitsOf(part, past, logits);
      const rows = wanted.subarray(
        past * model.vocabSize,
        (past + part.length) * model.vocabSize,
      );
      assertLess(distance(logits.data as Float32Array, rows), TOLERANCE);
    }
  }
});

Deno.test("a prompt's tokens are scored in chunks as transformers does, in any slot, then sampled", async () => {
  using tiny = await Tiny.open("qwen2");
  const model = await tiny.base.lane();
  const expected = new Expected(`${folderOf("qwen2")}expected.safetensors`);
  const [ids, logits] = [expected.integers("ids"), expected.floats("logits")];
  const rowOf = (position: number) =>
    logSoftmax(logits.subarray(position * model.vocabSize, (position + 1) * model.vocabSize));
  let past = 0;
  for (const size of [13, 1, ids.length - 14]) {
    const tokens = ids.slice(past, past + size);
    const next = ids.slice(past + 1, past + size + 1);
    const last = past + size === ids.length;
    const scored = await model.score({ slot: 2, tokens, past, last }, next, 3);
    assertEquals(scored.length, next.length);
    for (const [i, { given: [given] = [], top = [] }] of scored.entries()) {
      const wanted = rowOf(past + i);
      assertLess(Math.abs(given.logprob - wanted[next[i]]), TOLERANCE);
      const order = [...wanted.keys()].sort((a, b) => wanted[b] - wanted[a]);
      assertEquals(top.map(({ token }) => token), order.slice(0, 3));
      assertEquals(given.rank, 1 + order.indexOf(next[i]));
    }
    past += size;
  }
  const again = { slot: 2, tokens: ids.slice(-1), past: ids.length - 1, last: true };
  await model.prefill([again]);
  assertLess(distance(await distributionAt(model), rowOf(ids.length - 1)), TOLERANCE);
});

for (const name of ARCHITECTURES) {
  Deno.test(`${name}: a prompt at once, in chunks, and token by token are transformers' logits`, async () => {
    using tiny = await Tiny.open(name);
    const model = await tiny.base.lane();
    const expected = new Expected(`${folderOf(name)}expected.safetensors`);
    const ids = expected.integers("ids");
    const logits = expected.floats("logits");
    const wanted = (position: number) =>
      logSoftmax(logits.subarray(position * model.vocabSize, (position + 1) * model.vocabSize));
    for (const sizes of [[40], [13, 8, 19], [1, 39], [39, 1], [10, 10, 10, 10]]) {
      let end = 0;
      for (const [i, found] of (await inChunks(model, ids, sizes)).entries()) {
        end += sizes[i];
        assertLess(distance(found, wanted(end - 1)), TOLERANCE, `chunks of ${sizes}, at ${end}`);
      }
    }
    await inChunks(model, ids.slice(0, 1), [1]);
    for (let at = 1; at < ids.length; at++) {
      await model.decode([ids[at]], [at]);
      assertLess(distance(await distributionAt(model), wanted(at)), TOLERANCE, `token ${at}`);
    }
  });
}

const RAGGED = [3, 17, 1, 40, 8, 25];

function raggedRows(cores: readonly (ResidentCore | undefined)[] = []): GreedyRow[] {
  return RAGGED.map((length, i) => ({ prompt: randomPrompt(length, i), core: cores[i] }));
}

/** Fails where two rows differ by more than rounding. */
function assertAlike(found: Spoken, wanted: Spoken, what: string): void {
  assertEquals(found.tokens, wanted.tokens, what);
  assertLess(distance(found.logprobs, wanted.logprobs), TOLERANCE, what);
}

for (const name of ARCHITECTURES) {
  Deno.test(`${name}: ragged prompts with different cores in one batch are each alone`, async () => {
    using tiny = await Tiny.open(name);
    const factors = tiny.factors(8, ["q_proj", "v_proj"]);
    const cores = [0, 1, 2, 3].map((seed) => toResident(randomCore(factors, seed, 3), factors));
    const model = await tiny.base.lane(factors);
    const rows = raggedRows([cores[0], undefined, cores[1], cores[2], undefined, cores[3]]);
    const together = await greedy(model, rows, 14);
    for (const [i, row] of rows.entries()) {
      const [alone] = await greedy(model, [row], 14);
      assertAlike(together[i], alone, `row ${i}`);
    }
    const plain = await greedy(await tiny.base.lane(), raggedRows(), 14);
    for (const [i, { core }] of rows.entries()) {
      if (core === undefined) assertAlike(together[i], plain[i], `base row ${i}`);
      else assertGreater(distance(together[i].logprobs, plain[i].logprobs), 0.01, `row ${i}`);
    }
  });
}

Deno.test("a lane compiled in two pieces is one that is whole: cores, chunks and base rows", async () => {
  using whole = await Tiny.open("qwen2");
  using apart = await Tiny.open("qwen2", { apart: 0 });
  const factors = whole.factors(8, MODULES);
  const cores = [0, 1].map((seed) => toResident(randomCore(factors, seed, 3), factors));
  const rows = raggedRows([cores[0], undefined, cores[1], undefined, undefined, cores[0]]);
  const model = await apart.base.lane(factors);
  const found = await greedy(model, rows, 14);
  const wanted = await greedy(await whole.base.lane(factors), rows, 14);
  for (const [i] of rows.entries()) assertAlike(found[i], wanted[i], `row ${i}`);
  const text = randomPrompt(40, 1);
  const chunks = await inChunks(await apart.base.lane(), text, [13, 8, 19]);
  const [once] = await inChunks(await whole.base.lane(), text, [40]);
  assertLess(distance(chunks.at(-1) ?? [], once), TOLERANCE);
});

Deno.test("rows of slots apart, and rows with a past, are prefilled in one call with their own logits", async () => {
  using tiny = await Tiny.open("llama");
  const model = await tiny.base.lane();
  const prompts = RAGGED.map((length, i) => randomPrompt(length, i));
  const alone: Float64Array[] = [];
  for (const prompt of prompts) alone.push(...await inChunks(model, prompt, [prompt.length]));
  // Slot 3 already holds 30 of its 40 tokens, between two neighbours; slot 1 is left out.
  await model.prefill([{ slot: 3, tokens: prompts[3].slice(0, 30), past: 0, last: false }]);
  const slots = [0, 2, 3, 4, 5];
  await model.prefill(slots.map((slot) => {
    const past = slot === 3 ? 30 : 0;
    return { slot, tokens: prompts[slot].slice(past), past, last: true };
  }));
  for (const [row, slot] of slots.entries()) {
    assertLess(distance(await distributionAt(model, row), alone[slot]), TOLERANCE, `slot ${slot}`);
  }
});

/** The distribution after one more token in a slot, the slots before it idle. */
async function next(model: Executor, slot: number, length: number): Promise<Float64Array> {
  const lengths = new Array<number>(slot + 1).fill(0);
  lengths[slot] = length;
  await model.decode(new Array<number>(slot + 1).fill(7), lengths);
  return await distributionAt(model, slot);
}

Deno.test("a row that is moved, saved and loaded, with its slot freed, goes on as if nothing was", async () => {
  using tiny = await Tiny.open("mistral");
  const factors = tiny.factors(4, ["q_proj", "v_proj"]);
  const core = toResident(randomCore(factors, 1, 3), factors);
  const model = await tiny.base.lane(factors);
  const prompt = randomPrompt(37, 3);
  const prefill = async (slot: number) => {
    model.setAdapter(slot, core);
    await model.prefill([{ slot, tokens: prompt, past: 0, last: true }]);
  };
  await prefill(0);
  const wanted = await next(model, 0, 37);

  await prefill(4);
  model.move(4, 1, 37);
  model.free(4);
  assertLess(distance(await next(model, 1, 37), wanted), TOLERANCE, "moved, with its core");

  await prefill(2);
  const blocks = [model.save(2, 0, 32), model.save(2, 32, 37)];
  model.free(2);
  await model.prefill([{ slot: 2, tokens: randomPrompt(60, 9), past: 0, last: true }]);
  model.setAdapter(3, core);
  blocks.forEach((block, i) => model.load(3, i * 32, block));
  assertLess(distance(await next(model, 3, 37), wanted), TOLERANCE, "saved and loaded");

  model.load(0, 0, blocks[0]);
  const rest = prompt.slice(32);
  model.setAdapter(0, core);
  await model.prefill([{ slot: 0, tokens: rest, past: 32, last: true }]);
  assertLess(distance(await next(model, 0, 37), wanted), TOLERANCE, "a loaded prefix, completed");

  // The blocks hold what the core made of the prompt: under the base they are another text's.
  model.setAdapter(3, undefined);
  assertGreater(distance(await next(model, 3, 37), wanted), 0.01);
});

Deno.test("setting a core changes its own slot only", async () => {
  using tiny = await Tiny.open("qwen3");
  const factors = tiny.factors(8, MODULES);
  const cores = [1, 2].map((seed) => toResident(randomCore(factors, seed), factors));
  const model = await tiny.base.lane(factors);
  const prompts = [5, 9, 14].map((length) => randomPrompt(length, length));
  const run = async () => {
    const rows = prompts.map((tokens, slot) => ({ slot, tokens, past: 0, last: true }));
    await model.prefill(rows);
    const found: Float64Array[] = [];
    for (const row of [0, 1, 2]) found.push(await distributionAt(model, row));
    return found;
  };
  model.setAdapter(0, cores[0]);
  const before = await run();
  model.setAdapter(1, cores[1]);
  const after = await run();
  assertEquals(after[0], before[0]);
  assertEquals(after[2], before[2]);
  assertGreater(distance(after[1], before[1]), 0.01);
  model.setAdapter(1, undefined);
  assertEquals(await run(), before);
  const short = { digest: "short", data: new Float32Array(3) };
  assertThrows(() => model.setAdapter(1, short), RangeError, "3 numbers");
});

/** Cores of the factors' rank, 8, and of a lower one. */
const MERGED = [
  ["llama", 8],
  ["qwen2", 8],
  ["qwen3", 8],
  ["gemma3", 8],
  ["gemma2", 8],
  ["granite", 8],
  ["olmo2", 8],
  ["smollm3", 8],
  ["glm4", 8],
  ["phi3", 8],
  ["llama", 3],
] as const;

for (const [name, rank] of MERGED) {
  Deno.test(`${name}: a core of rank ${rank} on all seven linears is the base with it merged in`, async () => {
    using tiny = await Tiny.open(name);
    const factors = tiny.factors(8, MODULES, 5);
    const model = await tiny.base.lane(factors);
    const core = randomCore(factors, 4, 1, rank);
    const rows = raggedRows().map((row) => ({ ...row, core: toResident(core, factors) }));
    const adapted = await greedy(model, rows, 16);
    const weights = (own: Tiny["checkpoint"]["weights"]) => new MergedWeights(own, core, factors);
    using merged = await Tiny.open(name, { weights });
    const plain = rows.map(({ prompt }) => ({ prompt }));
    const expected = await greedy(await merged.base.lane(), plain, 16);
    expected.forEach((row, i) => assertAlike(adapted[i], row, `row ${i}`));
    const base = await greedy(await tiny.base.lane(), plain, 16);
    adapted.forEach((row, i) => {
      assertGreater(distance(row.logprobs, base[i].logprobs), 0.01, `row ${i}`);
    });
  });
}

Deno.test("lanes of one base share it and keep to their own factors", async () => {
  using tiny = await Tiny.open("llama-bias");
  const sets = [tiny.factors(8, ["q_proj", "v_proj"], 1), tiny.factors(4, MODULES, 2)];
  const lanes = [
    await tiny.base.lane(),
    ...await Promise.all(sets.map((set) => tiny.base.lane(set))),
  ];
  const rows = raggedRows();
  const speak = (lane: number, seed?: number) => {
    const factors = sets[lane - 1];
    const core = seed === undefined || factors === undefined
      ? undefined
      : toResident(randomCore(factors, seed, 2), factors);
    return greedy(lanes[lane], rows.map((row) => ({ ...row, core })), 8);
  };
  const base = await speak(0);
  const [first, second] = [await speak(1, 6), await speak(2, 6)];
  // Runs of different lanes side by side.
  const [a, b, c] = await Promise.all([speak(0), speak(1, 6), speak(2, 6)]);
  assertEquals([a, b, c], [base, first, second]);
  for (const [i, row] of (await speak(1)).entries()) assertAlike(row, base[i], `row ${i}`);
  for (const [i, row] of (await speak(2)).entries()) assertAlike(row, base[i], `row ${i}`);
  assertGreater(distance(first[0].logprobs, base[0].logprobs), 0.01);
  assertGreater(distance(first[0].logprobs, second[0].logprobs), 0.01);
  await tiny.base.drop(lanes[1]);
  assertEquals(await speak(2, 6), second);
  assertEquals(await speak(0), base);
});

/** Makes a device refuse the session that comes as the `nth`. */
function failing(device: Device, nth: number): { restore(): void } {
  const { session } = device;
  let made = 0;
  device.session = (model, options) =>
    ++made === nth ? Promise.reject(new Error("no room")) : session.call(device, model, options);
  return { restore: () => device.session = session };
}

Deno.test("a dropped lane gives every native object back, and so does one that cannot be made", async () => {
  using tiny = await Tiny.open("llama", { dtype: "int8" });
  const rows = raggedRows();
  const comeAndGo = async (seed: number) => {
    const lane = await tiny.base.lane(tiny.factors(8, MODULES, seed));
    await greedy(lane, rows, 4);
    await tiny.base.drop(lane);
  };
  const stays = await tiny.base.lane();
  await greedy(stays, rows, 4);
  await comeAndGo(1);
  const before = tiny.device.liveObjects;
  await comeAndGo(2);
  await comeAndGo(3);
  assertEquals(tiny.device.liveObjects, before);
  const fails = failing(tiny.device, 1);
  await assertRejects(() => tiny.base.lane(tiny.factors(8, MODULES, 4)), Error, "no room");
  fails.restore();
  assertEquals(tiny.device.liveObjects, before);
});

for (const dtype of ["int8", "int4"] as const) {
  Deno.test(`${dtype} lanes say about what float32 says, core included`, async () => {
    using exact = await Tiny.open("llama");
    using rough = await Tiny.open("llama", { dtype });
    const factors = exact.factors(8, MODULES, 5);
    const core = toResident(randomCore(factors, 4), factors);
    const [a, b] = [await exact.base.lane(factors), await rough.base.lane(factors)];
    const tokens = randomPrompt(40, 1);
    const after = async (model: Executor, held: ResidentCore | undefined) => {
      model.setAdapter(0, held);
      const [found] = await inChunks(model, tokens, [40]);
      return found.map(Math.exp);
    };
    const wanted = await after(a, core);
    const off = distance(await after(b, core), wanted);
    const base = distance(await after(a, undefined), wanted);
    assertLess(off, base / 4, `${off} off, where the core moves ${base}`);
  });
}
