/**
 * The sampler's graphs against sampling written down from the definitions.
 *
 * A draw is right where its uniform number lies in the token's interval of the running sum of
 * probabilities; float32 sums over the vocabulary move interval ends by less than 1e-5. A token of
 * probability 0 is never right.
 */
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import type { Sampled, SampleRow } from "../../src/executor/model.ts";
import { randomArray } from "../graph/run.ts";
import { seeded } from "../engine/harness.ts";
import { allows, descending, distribution, logSoftmax } from "../engine/naive_sampler.ts";
import { Bench } from "../engine/sampler_rig.ts";
import { LONG } from "../long.ts";

const EDGE = 1e-5;
/** Vocabularies that fit words of 32 and blocks of 256, or do not. */
const VOCABULARIES = [50, 300, 512, 1000, 4099];

/** Fails where the token is not what the row asks for. */
function check(logits: Float32Array, row: SampleRow, sampled: Sampled, what: string): void {
  const { greedy, probabilities } = distribution(logits, row);
  if (row.temperature === 0) assertEquals(sampled.token, greedy, what);
  else checkDraw(probabilities, row.uniform, sampled.token, what);
  if (row.logprobs === undefined) return assertEquals(sampled.logprob, undefined);
  const expected = logSoftmax(logits);
  const near = (a: number | undefined, b: number) =>
    assertLess(Math.abs((a ?? NaN) - b), EDGE, what);
  near(sampled.logprob, expected[sampled.token]);
  const most = descending(logits).slice(0, row.logprobs);
  assertEquals(sampled.top?.map(({ token }) => token), most, what);
  sampled.top?.forEach(({ token, logprob }) => near(logprob, expected[token]));
}

function checkDraw(
  probabilities: Float64Array,
  uniform: number,
  token: number,
  what: string,
): void {
  const chance = probabilities[token];
  assertGreater(chance, 0, `${what}: token ${token} has probability 0`);
  const before = probabilities.subarray(0, token).reduce((sum, p) => sum + p, 0);
  const inside = uniform > before - EDGE && uniform < before + chance + EDGE;
  assert(inside, `${what}: ${uniform} is not in ${before} … ${before + chance}`);
}

/** A mask over the vocabulary that allows a token with the given chance, and the last one always. */
function randomMask(random: () => number, vocab: number, chance: number): Int32Array {
  const mask = new Int32Array(Math.ceil(vocab / 32));
  for (let token = 0; token < vocab; token++) {
    if (random() < chance || token === vocab - 1) mask[token >> 5] |= 1 << (token & 31);
  }
  return mask;
}

function randomAdjust(random: () => number, vocab: number): NonNullable<SampleRow["adjust"]> {
  const ids = new Set(Array.from({ length: 1 + Math.floor(random() * 6) }, (_, i) => {
    return i === 0 && random() < 0.5 ? 0 : Math.floor(random() * vocab);
  }));
  return {
    ids: Int32Array.from(ids),
    delta: Float32Array.from(ids, () => random() < 0.2 ? -Infinity : 4 * random() - 2),
    repetition: Float32Array.from(ids, () => random() < 0.3 ? 1 : 0.5 + 2 * random()),
  };
}

/** A row of any features. */
function randomRow(random: () => number, vocab: number, row: number): SampleRow {
  const often = (chance: number) => random() < chance;
  return {
    row,
    temperature: often(0.2) ? 0 : [0.3, 1, 1, 1.7][Math.floor(random() * 4)],
    uniform: random(),
    ...(often(0.3) ? { topK: 1 + Math.floor(random() * 40) } : {}),
    ...(often(0.4) ? { topP: [0.1, 0.5, 0.9, 0.999][Math.floor(random() * 4)] } : {}),
    ...(often(0.3) ? { minP: [0.001, 0.05, 0.4][Math.floor(random() * 3)] } : {}),
    ...(often(0.3) ? { adjust: randomAdjust(random, vocab) } : {}),
    ...(often(0.3) ? { mask: randomMask(random, vocab, [0.02, 0.5, 0.95][row % 3]) } : {}),
    ...(often(0.3) ? { logprobs: Math.floor(random() * 6) } : {}),
  };
}

for (const vocab of VOCABULARIES) {
  Deno.test(`rows of any features in one call, ${vocab} tokens, are drawn as defined`, async () => {
    using bench = new Bench(vocab, randomArray(9 * vocab, vocab, 2.5));
    const random = seeded(vocab);
    for (let call = 0; call < 40; call++) {
      const rows = Array.from(
        { length: 1 + Math.floor(random() * 9) },
        () => randomRow(random, vocab, Math.floor(random() * 9)),
      );
      const sampled = await bench.sample(rows);
      assertEquals(sampled.length, rows.length);
      for (const [i, row] of rows.entries()) {
        check(
          bench.row(row.row),
          row,
          sampled[i],
          `call ${call}, row ${i}: ${JSON.stringify(row)}`,
        );
      }
    }
  });
}

Deno.test("a row draws the same token whatever the others in its call ask for", async () => {
  const vocab = 1000;
  using bench = new Bench(vocab, randomArray(9 * vocab, 1, 2));
  const random = seeded(5);
  for (let call = 0; call < 30; call++) {
    const rows = Array.from({ length: 9 }, (_, row) => randomRow(random, vocab, row));
    const together = await bench.sample(rows);
    for (const [i, row] of rows.entries()) {
      const [alone] = await bench.sample([row]);
      assertEquals(alone.token, together[i].token, JSON.stringify(row));
    }
  }
});

/** Each transform by itself and with others, over many uniform numbers. */
const COMBINATIONS: readonly Omit<SampleRow, "row" | "uniform">[] = [
  { temperature: 1 },
  { temperature: 0.2 },
  { temperature: 1, topK: 1 },
  { temperature: 1, topK: 7 },
  { temperature: 1, topK: 400 },
  { temperature: 1, topP: 0.05 },
  { temperature: 1, topP: 0.8 },
  { temperature: 1, topP: 1 },
  { temperature: 1, minP: 0.1 },
  { temperature: 1, minP: 1 },
  { temperature: 1.5, topK: 20, topP: 0.7 },
  { temperature: 0.7, topK: 50, minP: 0.03 },
  { temperature: 1, topP: 0.95, minP: 0.02 },
  { temperature: 2, topK: 30, topP: 0.9, minP: 0.01 },
];

Deno.test("temperature, top-k, top-p, min-p and all together leave what they should", async () => {
  for (const vocab of [300, 1000]) {
    using bench = new Bench(vocab, randomArray(vocab, 3, 2));
    const uniforms = Array.from({ length: 64 }, (_, i) => (i + 0.5) / 64);
    for (const row of COMBINATIONS) {
      const tokens = await bench.draws(uniforms, row);
      const { probabilities } = distribution(bench.row(0), { ...row, row: 0, uniform: 0 });
      const what = JSON.stringify(row);
      tokens.forEach((token, i) => checkDraw(probabilities, uniforms[i], token, what));
    }
  }
});

Deno.test("top-p of a flat distribution takes as many tokens as it needs, exactly", async () => {
  // 4,000 near-equal tokens: the first 256 candidates hold 6% of the mass.
  const vocab = 4000;
  using bench = new Bench(vocab, randomArray(vocab, 1, 0.01));
  const uniforms = Array.from({ length: 200 }, (_, i) => (i + 0.5) / 200);
  for (const [topP, topK] of [[0.05], [0.3], [0.9], [0.9, 1000], [0.999]]) {
    const row = { temperature: 1, topP, ...(topK === undefined ? {} : { topK }) };
    const { probabilities } = distribution(bench.row(0), { ...row, row: 0, uniform: 0 });
    const kept = probabilities.filter((p) => p > 0).length;
    assertLess(Math.abs(kept / vocab - topP * (topK ?? vocab) / vocab), 0.01);
    const tokens = await bench.draws(uniforms, row);
    tokens.forEach((token, i) => checkDraw(probabilities, uniforms[i], token, `top-p ${topP}`));
  }
  // Beside a row that is done at once, each keeps its own.
  const rows = [
    { row: 0, temperature: 1, topP: 0.9, uniform: 0.7 },
    { row: 0, temperature: 1, topP: 0.001, uniform: 0.7 },
    { row: 0, temperature: 0, topP: 0.9, uniform: 0.7 },
  ];
  const sampled = await bench.sample(rows);
  rows.forEach((row, i) => check(bench.row(0), row, sampled[i], `row ${i}`));
});

Deno.test("a top-k of the whole vocabulary or more leaves all of it", async () => {
  using bench = new Bench(300, randomArray(300, 2));
  const uniforms = Array.from({ length: 50 }, (_, i) => (i + 0.5) / 50);
  const all = await bench.draws(uniforms);
  for (const topK of [300, 301, 5000]) {
    assertEquals(await bench.draws(uniforms, { temperature: 1, topK }), all);
    assertEquals(await bench.draws(uniforms, { temperature: 1, topK, topP: 1 }), all);
  }
});

Deno.test("equal logits: greedy takes the first token", async () => {
  using bench = new Bench(100, new Float32Array(200).fill(1.5));
  const rows = [0, 1].map((row) => ({ row, temperature: 0, uniform: 0.9 }));
  assertEquals((await bench.sample(rows)).map(({ token }) => token), [0, 0]);
  const general = rows.map((row) => ({ ...row, logprobs: 0 }));
  assertEquals((await bench.sample(general)).map(({ token }) => token), [0, 0]);
});

Deno.test("greedy picks follow the rows asked for, in their order", async () => {
  const data = new Float32Array(20 * 64);
  for (let row = 0; row < 20; row++) data[row * 64 + (row * 7) % 64] = 1;
  using bench = new Bench(64, data);
  for (const order of [[3], [19, 0, 7], Array.from({ length: 20 }, (_, i) => 19 - i)]) {
    const sampled = await bench.sample(order.map((row) => ({ row, temperature: 0, uniform: 0 })));
    assertEquals(sampled.map(({ token }) => token), order.map((row) => (row * 7) % 64));
  }
});

Deno.test("no rows, no tokens", async () => {
  using bench = new Bench(64, new Float32Array(64));
  assertEquals(await bench.sample([]), []);
});

Deno.test("a change of token 0 survives the padding of shorter lists of changes", async () => {
  // Row 0 changes only token 0, row 1 three others: row 0's list is padded with token 0.
  const data = new Float32Array(2 * 64);
  data[0] = 3;
  data[1] = 2.5;
  data[64] = 3;
  using bench = new Bench(64, data);
  const one = (value: number) => Float32Array.of(value);
  const three = {
    ids: Int32Array.of(5, 6, 7),
    delta: Float32Array.of(1, 2, 2.9),
    repetition: new Float32Array(3).fill(1),
  };
  for (
    const adjust of [
      { ids: Int32Array.of(0), delta: one(-1), repetition: one(1) },
      { ids: Int32Array.of(0), delta: one(0), repetition: one(2) },
      { ids: Int32Array.of(0), delta: one(-Infinity), repetition: one(1) },
    ]
  ) {
    const rows = [
      { row: 0, temperature: 0, uniform: 0, adjust },
      { row: 1, temperature: 0, uniform: 0, adjust: three },
    ];
    assertEquals((await bench.sample(rows)).map(({ token }) => token), [1, 0]);
  }
});

Deno.test("a repetition penalty divides positive logits and multiplies negative ones", async () => {
  using bench = new Bench(4, Float32Array.of(2, 1.5, -1, -1.5));
  const repetition = new Float32Array(4).fill(1);
  repetition[0] = 2;
  const adjust = { ids: Int32Array.of(0, 1, 2, 3), delta: new Float32Array(4), repetition };
  const greedy = async () =>
    (await bench.sample([{ row: 0, temperature: 0, uniform: 0, adjust }]))[0].token;
  assertEquals(await greedy(), 1);
  const mask = Int32Array.of(0b1100);
  const negative = { ...adjust, repetition: Float32Array.of(1, 1, 2, 1) };
  const [{ token }] = await bench.sample([
    { row: 0, temperature: 0, uniform: 0, adjust: negative, mask },
  ]);
  assertEquals(token, 3);
});

/** Uniform numbers at and around every boundary of the running sum. */
function edges(probabilities: readonly number[]): number[] {
  const found = [0, 2 ** -53, 2 ** -24, 1 - 2 ** -24, 1 - 2 ** -25, 1 - 2 ** -53];
  let sum = 0;
  for (const p of probabilities) {
    sum += p;
    for (const step of [-(2 ** -24), -(2 ** -25), -(2 ** -53), 0, 2 ** -53, 2 ** -25, 2 ** -24]) {
      found.push(Math.min(Math.max(sum + step, 0), 1 - 2 ** -53));
    }
    found.push(Math.min(Math.fround(sum), 1 - 2 ** -53));
  }
  return found;
}

Deno.test("no uniform number gives a token of probability 0", async () => {
  const random = seeded(11);
  for (const vocab of [64, 1000, 2048, 4099]) {
    using bench = new Bench(vocab, randomArray(vocab, vocab, 3));
    for (let trial = 0; trial < (LONG ? 12 : 4); trial++) {
      const mask = randomMask(random, vocab, [0.003, 0.02, 0.4][trial % 3]);
      const row = {
        temperature: [1, 0.25][trial % 2],
        mask,
        ...(trial % 4 === 3 ? { topP: 0.9 } : {}),
      };
      const { probabilities } = distribution(bench.row(0), { ...row, row: 0, uniform: 0 });
      const uniforms = edges(Array.from(probabilities).filter((p) => p > 0));
      const tokens = await bench.draws(uniforms, row);
      tokens.forEach((token, i) => {
        assert(allows(mask, token), `token ${token} is masked, uniform ${uniforms[i]}`);
        checkDraw(probabilities, uniforms[i], token, `uniform ${uniforms[i]}`);
      });
    }
  }
});

Deno.test("rounding between blocks gives no token of probability 0", async () => {
  // Only the last token of each block is allowed, so that a sum a hair too large or too small
  // would show as a block's first.
  const vocab = 64 * 256;
  const random = seeded(3);
  const mask = new Int32Array(vocab / 32);
  for (let block = 0; block < 64; block++) mask[block * 8 + 7] = 1 << 31;
  for (let trial = 0; trial < (LONG ? 6 : 2); trial++) {
    const logits = new Float32Array(vocab);
    for (let block = 0; block < 64; block++) logits[block * 256 + 255] = 3 * random();
    using bench = new Bench(vocab, logits);
    const { probabilities } = distribution(logits, { row: 0, uniform: 0, temperature: 1, mask });
    const fine = edges(Array.from(probabilities).filter((p) => p > 0));
    const more = fine.flatMap((u) => [-3, -2, 2, 3].map((k) => u + k * 2 ** -25));
    const uniforms = [...fine, ...more.filter((u) => u >= 0 && u < 1)];
    for (let start = 0; start < uniforms.length; start += 128) {
      const tokens = await bench.draws(uniforms.slice(start, start + 128), {
        temperature: 1,
        mask,
      });
      for (const token of tokens) assertEquals(token % 256, 255);
    }
  }
});
