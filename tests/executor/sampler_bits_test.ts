/**
 * Draws against those of the sampler that computed with whole rows: the same token for the same
 * uniform number, whatever the logits, and no bit of leeway.
 */
import { assert, assertEquals } from "@std/assert";
import type { SampleRow } from "../../src/executor/model.ts";
import { Sampler } from "../../src/executor/sampler.ts";
import { DEVICE } from "../graph/device.ts";
import { randomArray } from "../graph/run.ts";
import { seeded } from "../engine/harness.ts";
import { LONG } from "../long.ts";
import { WholeRowSampler } from "./whole_rows/sampler.ts";

type Params = Omit<SampleRow, "row" | "uniform">;

const ROWS = 6;

/** Both samplers over the same logits. */
class Pair implements Disposable {
  readonly #fresh: Sampler;
  readonly #whole: WholeRowSampler;
  readonly data: Float32Array;
  readonly #room = new DisposableStack();

  constructor(readonly vocab: number, data: Float32Array) {
    this.#fresh = this.#room.adopt(new Sampler(DEVICE, vocab), (made) => made.release());
    this.#whole = this.#room.adopt(new WholeRowSampler(DEVICE, vocab), (made) => made.release());
    // not over `data` itself: large memory of the device's own is what threads share
    const logits = this.#room.use(DEVICE.tensor("float32", [data.length / vocab, vocab]));
    this.data = logits.data as Float32Array;
    this.data.set(data);
    this.fresh = (rows) => this.#fresh.sample(logits, rows);
    this.whole = (rows) => this.#whole.sample(logits, rows);
    this.#room.defer(() => this.#fresh.forget(logits));
    this.#room.defer(() => this.#whole.forget(logits));
  }

  readonly fresh: (rows: readonly SampleRow[]) => ReturnType<Sampler["sample"]>;
  readonly whole: (rows: readonly SampleRow[]) => ReturnType<Sampler["sample"]>;

  /** Fails where a token differs, or the logits are not what they were. */
  async check(rows: readonly SampleRow[], what: string): Promise<void> {
    const before = this.data.slice();
    const expected = (await this.whole(rows)).map(({ token }) => token);
    const tokens = (await this.fresh(rows)).map(({ token }) => token);
    for (const [i, token] of tokens.entries()) {
      if (token === expected[i]) continue;
      const { row, mask, adjust, ...rest } = rows[i];
      const odd = `${mask ? "mask" : ""} ${adjust ? "changes" : ""}`;
      assertEquals(token, expected[i], `${what}, row ${row} ${JSON.stringify(rest)} ${odd}`);
    }
    assert(this.data.every((x, at) => Object.is(x, before[at])), `${what}: changed logits`);
  }

  [Symbol.dispose](): void {
    this.#room.dispose();
  }
}

/** Logits of hard kinds: name and the value of token i of row r, given a normal number. */
const LOGITS: Readonly<Record<string, (normal: number, i: number, r: number) => number>> = {
  "a tail and a few peaks": (x, i, r) => i % 997 === 13 * r ? 14 - i / 997 : 2.5 * x,
  "nearly flat": (x) => 0.001 * x,
  "all equal": () => 1.25,
  "steps, so that thresholds meet ties in many blocks": (x) => Math.round(2 * x) / 2,
  "two heights": (_, i) => i % 3 === 0 ? 2 : -1,
  "one peak over a flat rest": (x, i, r) => i === 300 + r ? 9 : 0.01 * x,
  "falling with the id": (x, i) => -0.002 * i + 1e-4 * x,
  "a third impossible": (x, i) => i % 3 === 1 ? -Infinity : 3 * x,
  "far apart": (x) => 60 * x,
};

const PARAMS: readonly Params[] = [
  { temperature: 0 },
  { temperature: 1 },
  { temperature: 0.7 },
  ...[1, 2, 20, 500].map((topK) => ({ temperature: 1, topK })),
  ...[0, 1e-6, 0.05, 0.5, 0.9, 0.999, 1].map((topP) => ({ temperature: 1, topP })),
  ...[0.3, 0.9].map((topP) => ({ temperature: 2.3, topP })),
  ...[0.0001, 0.05, 1].map((minP) => ({ temperature: 1, minP })),
  { temperature: 0.7, topP: 0.8, topK: 20 },
  { temperature: 1, topP: 0.5, topK: 20, minP: 0.02 },
  { temperature: 1.9, topP: 0.95, topK: 700 },
  { temperature: 1, topP: 0.9, minP: 0.01 },
  { temperature: 0.1, topP: 0.99, topK: 3 },
];

/** What depends on the size of the vocabulary. */
function sized(vocab: number): Params[] {
  return [vocab - 1, vocab, vocab + 9].filter((topK) => topK > 0).flatMap((topK) => [
    { temperature: 1, topK },
    { temperature: 1, topK, topP: 0.6 },
  ]);
}

function masks(random: () => number, vocab: number): Record<string, Int32Array> {
  const of = (allows: (token: number) => boolean) => {
    const mask = new Int32Array(Math.ceil(vocab / 32));
    for (let id = 0; id < vocab; id++) if (allows(id)) mask[id >> 5] |= 1 << (id & 31);
    return mask;
  };
  const only = Math.floor(random() * vocab);
  return {
    "all but some": of((id) => id % 7 !== 2 || id === only),
    "some": of((id) => id % 211 === only % 211),
    "one": of((id) => id === only),
  };
}

function changes(random: () => number, vocab: number): NonNullable<SampleRow["adjust"]> {
  const ids = new Set(Array.from({ length: 40 }, () => Math.floor(random() * vocab)));
  return {
    ids: Int32Array.from(ids),
    delta: Float32Array.from(
      ids,
      () => [0, -1.5, 4 * random(), -Infinity][Math.floor(random() * 4)],
    ),
    repetition: Float32Array.from(ids, () => [1, 1.05, 1.3, 0.8][Math.floor(random() * 4)]),
  };
}

/** Uniform numbers: the ends, and any. */
function uniform(random: () => number): number {
  const ends = [0, 2 ** -40, 1 - 2 ** -24, 1 - 2 ** -53];
  return random() < 0.2 ? ends[Math.floor(random() * ends.length)] : random();
}

const SIZES = [1, 2, 31, 128, 129, 300, 1024, 4099, 19_968, ...(LONG ? [49_152, 151_936] : [])];

for (const vocab of SIZES) {
  Deno.test(`of ${vocab} tokens the same are drawn as from whole rows`, async () => {
    const random = seeded(vocab);
    for (const [kind, logit] of Object.entries(LOGITS)) {
      const normal = randomArray(ROWS * vocab, vocab);
      const data = normal.map((x, at) => logit(x, at % vocab, Math.floor(at / vocab)));
      using pair = new Pair(vocab, data);
      const rows = [...PARAMS, ...sized(vocab)].flatMap((params) =>
        Array.from({ length: 2 }, () => {
          const row = Math.floor(random() * ROWS);
          return { ...params, row, uniform: uniform(random) };
        })
      );
      await pair.check(rows, kind);
      for (const [name, mask] of Object.entries(masks(random, vocab))) {
        await pair.check(rows.map((row) => ({ ...row, mask })), `${kind}, mask of ${name}`);
      }
      if (data.includes(-Infinity)) continue;
      const adjust = Array.from({ length: ROWS }, () => changes(random, vocab));
      const changed = rows.map((row) => ({ ...row, adjust: adjust[row.row] }));
      await pair.check(changed, `${kind}, changed`);
    }
  });
}

/** Neighbouring float32 numbers in [0, 1) between which the draw passes from one token to another. */
async function edges(pair: Pair, rows: readonly SampleRow[]): Promise<[number, number][]> {
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  const of = (value: number) => (bits[0] = value, float[0]);
  const draw = async (uniforms: readonly number[]) =>
    (await pair.whole(rows.map((row, i) => ({ ...row, uniform: of(uniforms[i]) }))))
      .map(({ token }) => token);
  float[0] = 1 - 2 ** -24;
  let [low, high] = [rows.map(() => 0), rows.map(() => bits[0])];
  const first = await draw(low);
  while (high.some((value, i) => value - low[i] > 1)) {
    const middle = low.map((value, i) => (value + high[i]) >>> 1);
    const tokens = await draw(middle);
    low = low.map((value, i) => tokens[i] === first[i] ? middle[i] : value);
    high = high.map((value, i) => tokens[i] === first[i] ? value : middle[i]);
  }
  return low.map((value, i) => [of(value), of(high[i])]);
}

Deno.test("the draw passes from one token to the next at the same float32 number", async () => {
  for (const vocab of [1000, 4099, 19_968]) {
    const data = randomArray(ROWS * vocab, 5, 2);
    // the first token that may come is a likely one, so that its end lies amid the numbers
    for (let row = 0; row < ROWS; row++) data[row * vocab + row] = 9 - 0.3 * row;
    using pair = new Pair(vocab, data);
    const some: Params[] = [
      { temperature: 1 },
      { temperature: 0.8, topK: 20 },
      { temperature: 1, topK: 300 },
      { temperature: 1, topP: 0.7 },
      { temperature: 1.3, topP: 0.95 },
      { temperature: 1, minP: 0.003 },
      { temperature: 0.9, topK: 50, topP: 0.98 },
    ];
    const { "all but some": mask } = masks(seeded(1), vocab);
    const masked: Params[] = [{ temperature: 0.9, mask }, { temperature: 1.1, topP: 0.9, mask }];
    const rows = [...some, ...masked].flatMap((params) =>
      Array.from({ length: ROWS }, (_, row) => ({ ...params, row, uniform: 0 }))
    );
    for (const [i, pairOfEdges] of (await edges(pair, rows)).entries()) {
      for (const uniform of pairOfEdges) await pair.check([{ ...rows[i], uniform }], `${uniform}`);
    }
  }
});

Deno.test("a row of NaN, or with nothing allowed, gives some token and leaves others alone", async () => {
  const vocab = 5000;
  const data = randomArray(3 * vocab, 3, 2);
  data.fill(NaN, vocab, 2 * vocab);
  using pair = new Pair(vocab, data);
  const nothing = new Int32Array(Math.ceil(vocab / 32));
  for (const params of PARAMS) {
    const rows = [0, 2].map((row) => ({ ...params, row, uniform: 0.4 }));
    const expected = await pair.whole(rows);
    const [first, odd, last, masked] = await pair.fresh([
      rows[0],
      { ...params, row: 1, uniform: 0.4 },
      rows[1],
      { ...params, row: 0, uniform: 0.4, mask: nothing },
    ]);
    assertEquals([first, last], expected);
    for (const { token } of [odd, masked]) assert(token >= 0 && token < vocab, `token ${token}`);
  }
});
