/**
 * Micro-benches of drawing tokens in the graph: each kind of request over SmolLM2's vocabulary of
 * 49,152, for 1 and 16 rows. The logits have a few likely tokens and a long tail; at temperature 2 the
 * mass is spread over thousands, top-p's worst case.
 */
import { gaussian } from "../src/util/random.ts";
import type { SampleRow } from "../src/executor/model.ts";
import { Sampler } from "../src/executor/sampler.ts";
import { openDevice } from "../src/runtime/open.ts";

const VOCAB = 49152;
const ROWS = 16;

const device = openDevice("cpu");
const sampler = new Sampler(device, VOCAB);
const values = Float32Array.from(gaussian(1, 1, ROWS * VOCAB), (value) => 5 * value);
const logits = device.tensor("float32", [ROWS, VOCAB], values);

const ids = Int32Array.from({ length: 64 }, (_, i) => 700 * i);
const adjust = {
  ids,
  delta: new Float32Array(ids.length).fill(-0.5),
  repetition: new Float32Array(ids.length).fill(1.1),
};
const KINDS: Readonly<Record<string, Omit<SampleRow, "row" | "uniform">>> = {
  "greedy": { temperature: 0 },
  "temperature 1": { temperature: 1 },
  "top-k 40": { temperature: 1, topK: 40 },
  "top-p 0.9": { temperature: 1, topP: 0.9 },
  "top-p 0.9, temperature 2": { temperature: 2, topP: 0.9 },
  "min-p 0.05": { temperature: 1, minP: 0.05 },
  "penalties on 64 tokens": { temperature: 1, adjust },
  "a grammar's mask": { temperature: 1, mask: new Int32Array(VOCAB / 32).fill(0x55555555) },
  "5 top logprobs": { temperature: 1, logprobs: 5 },
};

for (const count of [1, ROWS]) {
  const group = count === 1 ? "1 row" : `${count} rows`;
  for (const [kind, params] of Object.entries(KINDS)) {
    const rows = Array.from({ length: count }, (_, row) => ({
      ...params,
      row,
      uniform: (row + 0.5) / ROWS,
    }));
    Deno.bench(`${kind}, ${group}`, { group }, async () => {
      await sampler.sample(logits, rows);
    });
  }
}
