/**
 * Rows with LoRAs of their own on the real executor: each is the base with its LoRA merged in, whoever
 * shares the batch. Tolerance as in `executor_test.ts`: float32 sums in another order, amplified by two
 * layers.
 */
import { assertEquals, assertGreater, assertLess, assertThrows } from "@std/assert";
import { toResident } from "../../../adapters/lotr/core.ts";
import type { Executor } from "../../../src/executor/executor.ts";
import type { ResidentAdapter, Sampled } from "../../../src/executor/model.ts";
import { MODULES } from "../../../src/models/hook.ts";
import { type Lora, ranksOf } from "../../../src/models/lora.ts";
import { greedy, type GreedyRow, mostLikely, type Spoken } from "../../engine/greedy.ts";
import { randomCore, randomPrompt, Tiny } from "../../engine/tiny.ts";
import { distance } from "../../graph/run.ts";
import { type RandomLora, randomLora, withLora } from "./random_lora.ts";

const TOLERANCE = 1e-4;
const LENGTHS = [9, 1, 23, 14, 2, 17];
const STEPS = 14;

/** Every kind: linears, ranks of one piece and of several, ragged ranks, some layers only. */
const KINDS: readonly RandomLora[] = [
  { modules: ["q_proj", "v_proj"], rank: 8, seed: 1 },
  { modules: MODULES, rank: 16, seed: 2 },
  { modules: ["o_proj"], rank: 3, seed: 3 },
  {
    modules: ["q_proj", "down_proj"],
    rank: (layer, module) => module === "q_proj" ? 20 : 1 + layer,
    seed: 4,
  },
  { modules: ["k_proj", "v_proj", "o_proj"], rank: 64, layers: [1], seed: 5 },
];

function prompts(): readonly (readonly number[])[] {
  return LENGTHS.map((length, i) => randomPrompt(length, i));
}

function rowsOf(adapters: readonly (ResidentAdapter | undefined)[]): GreedyRow[] {
  return prompts().map((prompt, i) => ({ prompt, core: adapters[i] }));
}

/** Lays LoRAs out, and makes a lane ready for them. */
async function readied(tiny: Tiny, model: Executor, loras: readonly Lora[]) {
  const resident = loras.map((lora) => tiny.base.residentLora(lora));
  for (const one of resident) await model.prepare(one);
  return resident;
}

function assertAlike(found: Spoken, wanted: Spoken, what: string): void {
  assertEquals(found.tokens, wanted.tokens, what);
  assertLess(distance(found.logprobs, wanted.logprobs), TOLERANCE, what);
}

for (
  const name of [
    "llama",
    "llama-bias",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "glm4",
    "granite",
    "olmo2",
    "phi3",
    "smollm3",
    "mistral",
  ]
) {
  Deno.test(`${name}: LoRAs of all kinds in one batch are each the base with it merged in`, async () => {
    using tiny = await Tiny.open(name);
    const model = await tiny.base.lane();
    const loras = KINDS.map((kind) => randomLora(tiny.base.config, kind));
    const resident = await readied(tiny, model, loras);
    const together = await greedy(model, rowsOf([...resident, undefined]), STEPS);
    const plain = await greedy(model, rowsOf([]), STEPS);
    for (const [i, lora] of loras.entries()) {
      using merged = await Tiny.open(name, { weights: (own) => withLora(own, lora) });
      const [alone] = await greedy(await merged.base.lane(), [rowsOf([])[i]], STEPS);
      assertAlike(together[i], alone, `row ${i}`);
      assertGreater(distance(together[i].logprobs, plain[i].logprobs), 0.01, `row ${i}`);
    }
    assertEquals(together[5], plain[5], "the base's row, bit by bit");
    model.checkIntegrity();
  });
}

/** As `greedy`, with each prompt in a run of its own. */
async function decoded(model: Executor, rows: readonly GreedyRow[]): Promise<Spoken[]> {
  const spoken: Spoken[] = [];
  const hear = (slot: number, { token, logprob = NaN }: Sampled) => {
    const { tokens, logprobs } = spoken[slot] ??= { tokens: [], logprobs: [] };
    tokens.push(token);
    logprobs.push(logprob);
  };
  for (const [slot, { prompt, core }] of rows.entries()) {
    model.setAdapter(slot, core);
    await model.prefill([{ slot, tokens: prompt, past: 0, last: true }]);
    hear(slot, (await mostLikely(model, 1))[0]);
  }
  for (let step = 1; step < STEPS; step++) {
    const last = spoken.map(({ tokens }) => tokens[step - 1]);
    await model.decode(last, rows.map(({ prompt }) => prompt.length + step - 1));
    (await mostLikely(model, rows.length)).forEach((one, slot) => hear(slot, one));
  }
  return spoken;
}

for (const dtype of ["fp32", "int8"] as const) {
  Deno.test(`${dtype}: a row's steps say the same, bit by bit, whatever else is in the batch`, async () => {
    using tiny = await Tiny.open("qwen2", { dtype });
    const factors = tiny.factors(8, MODULES);
    const core = toResident(randomCore(factors, 1, 2), factors);
    const model = await tiny.base.lane(factors);
    const loras = KINDS.map((kind) => randomLora(tiny.base.config, kind));
    const [first, second, third, ...more] = await readied(tiny, model, loras);
    const batches = [
      [first, second, undefined, core, third, undefined],
      // several rows of one LoRA, beside others with more pieces
      [first, first, more[0], first, second, more[1]],
      [core, first, core, undefined, undefined, first],
      // one piece for all, in one batch of products
      [first, first, first, first, first, first],
    ];
    for (const batch of batches) {
      const rows = rowsOf(batch);
      const together = await decoded(model, rows);
      for (const [i, row] of rows.entries()) {
        const [alone] = await decoded(model, [row]);
        assertEquals(together[i], alone, `row ${i}`);
      }
    }
  });
}

Deno.test("a LoRA whose numbers overflow spoils its own row alone", async () => {
  using tiny = await Tiny.open("llama");
  const model = await tiny.base.lane();
  const [worst, ...loras] = [{ ...KINDS[0], seed: 9 }, KINDS[1], KINDS[0]]
    .map((kind) => randomLora(tiny.base.config, kind));
  const linears = worst.linears.map((one) => ({ ...one, b: one.b.map(() => 3e38) }));
  const [bad, ...good] = await readied(tiny, model, [{ ...worst, linears }, ...loras]);
  const rows = rowsOf([bad, good[0], undefined, good[1], undefined, good[0]]);
  const together = await decoded(model, rows);
  assertEquals(together[0].logprobs.some(Number.isFinite), false, "it does overflow");
  for (const [i, row] of rows.entries()) {
    if (i > 0) assertEquals(together[i], (await decoded(model, [row]))[0], `row ${i}`);
  }
  // what it left in its slot is behind a shorter row's end, and beside a longer one it is looked at
  await decoded(model, [rows[0]]);
  const after = [{ prompt: randomPrompt(1, 3) }, { prompt: randomPrompt(40, 4) }];
  const said = await decoded(model, after);
  assertEquals(said[0].logprobs.every(Number.isFinite), true, "nothing of it stays in its slot");
});

Deno.test("int8's channel scales reach a LoRA: near the float32 base with it merged in", async () => {
  using tiny = await Tiny.open("llama", { dtype: "int8" });
  const model = await tiny.base.lane();
  const lora = randomLora(tiny.base.config, { ...KINDS[1], strength: 0.5 });
  const [resident] = await readied(tiny, model, [lora]);
  const [found] = await greedy(model, [{ prompt: randomPrompt(30, 2), core: resident }], 1);
  using merged = await Tiny.open("llama", { weights: (own) => withLora(own, lora) });
  const [wanted] = await greedy(await merged.base.lane(), [{ prompt: randomPrompt(30, 2) }], 1);
  const [base] = await greedy(model, [{ prompt: randomPrompt(30, 2) }], 1);
  const off = distance(found.logprobs, wanted.logprobs);
  assertLess(off, 0.25 * distance(base.logprobs, wanted.logprobs));
});

Deno.test("a lane in two pieces runs LoRAs as a whole one does", async () => {
  using whole = await Tiny.open("qwen2");
  using apart = await Tiny.open("qwen2", { apart: 0 });
  const spoken: Spoken[][] = [];
  for (const tiny of [whole, apart]) {
    const model = await tiny.base.lane();
    const loras = KINDS.map((kind) => randomLora(tiny.base.config, kind));
    spoken.push(await greedy(model, rowsOf(await readied(tiny, model, loras)), STEPS));
  }
  const [wanted, found] = spoken;
  found.forEach((row, i) => assertAlike(row, wanted[i], `row ${i}`));
});

Deno.test("a LoRA goes with its row: moved, freed, in another slot, a prompt in chunks", async () => {
  using tiny = await Tiny.open("llama");
  const model = await tiny.base.lane();
  const loras = KINDS.map((kind) => randomLora(tiny.base.config, kind));
  const resident = await readied(tiny, model, loras);
  const prompt = randomPrompt(30, 7);
  const [{ tokens: wanted }] = await greedy(model, [{ prompt, core: resident[1] }], 4);
  resident.slice(0, 4).forEach((one, slot) => model.setAdapter(slot, one));
  model.setAdapter(4, resident[1]);
  await model.prefill([{ slot: 4, tokens: prompt.slice(0, 13), past: 0, last: false }]);
  await model.prefill([{ slot: 4, tokens: prompt.slice(13), past: 13, last: true }]);
  const draw = async (row: number) =>
    (await model.sample([{ row, temperature: 0, uniform: 0 }]))[0].token;
  const said = [await draw(0)];
  model.move(4, 1, 30);
  model.free(4);
  await model.decode([0, said[0], 0, 0], [0, 30, 0, 0]);
  said.push(await draw(1));
  model.free(3);
  model.free(2);
  await model.decode([0, said[1]], [0, 31]);
  said.push(await draw(1));
  model.move(1, 0, 32);
  model.free(1);
  await model.decode([said[2]], [32]);
  said.push(await draw(0));
  assertEquals(said, wanted);
  model.checkIntegrity();
});

Deno.test("a base refuses a LoRA of another width, of a layer that it has not, and of a rank over 64", async () => {
  using tiny = await Tiny.open("llama");
  const { config } = tiny.base;
  const [linear] = randomLora(config, { modules: ["q_proj"], rank: 4, seed: 1 }).linears;
  const lay = (changes: Partial<typeof linear>) =>
    tiny.base.residentLora({ digest: "d", linears: [{ ...linear, ...changes }] });
  assertThrows(() => lay({ a: linear.a.subarray(4) }), TypeError, "q_proj of layer 0 goes");
  assertThrows(
    () => lay({ layer: config.numLayers }),
    RangeError,
    `has ${config.numLayers} layers`,
  );
  const model = await tiny.base.lane();
  const wide = randomLora(config, { modules: ["q_proj"], rank: 65, seed: 1 });
  assertThrows(() => model.prepare(tiny.base.residentLora(wide)), RangeError, "above 64");
});

Deno.test("the bytes of a LoRA are known before it is laid out", async () => {
  using tiny = await Tiny.open("qwen2");
  for (const kind of KINDS) {
    const lora = randomLora(tiny.base.config, kind);
    const { data } = tiny.base.residentLora(lora);
    assertEquals(tiny.base.residentLoraBytes(ranksOf(lora.linears)), data.byteLength);
  }
});

Deno.test("a dropped lane gives back every native object of its LoRAs, one that is being prepared, too", async () => {
  using tiny = await Tiny.open("llama", { dtype: "int8" });
  const loras = KINDS.slice(0, 2).map((kind) => randomLora(tiny.base.config, kind));
  const comeAndGo = async () => {
    const lane = await tiny.base.lane();
    const resident = await readied(tiny, lane, loras);
    await greedy(lane, rowsOf(resident), 4);
    await tiny.base.drop(lane);
  };
  await comeAndGo();
  const before = tiny.device.liveObjects;
  await comeAndGo();
  assertEquals(tiny.device.liveObjects, before);
  const lane = await tiny.base.lane();
  const preparing = lane.prepare(tiny.base.residentLora(loras[0]));
  await tiny.base.drop(lane);
  await preparing;
  assertEquals(tiny.device.liveObjects, before);
});
