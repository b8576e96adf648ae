/**
 * Micro-benches of drawing tokens for 1 and 16 rows, at SmolLM2's vocabulary and at Qwen2.5's: what
 * clients and checkpoints ask for. Logits have some likely tokens over a long tail, as a model's; flat
 * ones are top-p's worst case, alone or beside 15 usual rows.
 */
import { gaussian } from "../src/util/random.ts";
import type { SampleRow } from "../src/executor/model.ts";
import { Sampler } from "../src/executor/sampler.ts";
import { openDevice } from "../src/runtime/open.ts";
import type { Tensor } from "../src/runtime/device.ts";

const VOCABULARIES = [49_152, 151_936] as const;
const ROWS = 16;
/** Tokens that a penalty meets. */
const PENALISED = 400;

const device = openDevice("cpu");

type Params = Omit<SampleRow, "row" | "uniform">;

interface Kind extends Params {
  /** Which rows are nearly flat. */
  readonly flat?: "all" | "one";
}

function kindsOf(vocab: number): Readonly<Record<string, Kind>> {
  const ids = Int32Array.from({ length: PENALISED }, (_, i) => (23_757 * i + 5) % vocab);
  const adjust = {
    ids,
    delta: new Float32Array(PENALISED),
    repetition: new Float32Array(PENALISED).fill(1.05),
  };
  const mask = new Int32Array(vocab / 32).fill(0x55555555);
  const narrow = new Int32Array(vocab / 32);
  narrow.fill(1, 0, 50);
  return {
    "greedy": { temperature: 0 },
    "temperature 1": { temperature: 1 },
    "top-k 20": { temperature: 1, topK: 20 },
    "top-p 0.9": { temperature: 1, topP: 0.9 },
    "top-p 0.9, top-k 20": { temperature: 1, topP: 0.9, topK: 20 },
    "Qwen's default": { temperature: 0.7, topP: 0.8, topK: 20, adjust },
    "min-p 0.05": { temperature: 1, minP: 0.05 },
    "penalties": { temperature: 1, adjust },
    "a grammar's mask, half": { temperature: 1, mask },
    "the same, top-p 0.9, top-k 20": { temperature: 1, topP: 0.9, topK: 20, mask },
    "a grammar's mask, 50 tokens": { temperature: 1, mask: narrow },
    "5 top logprobs": { temperature: 0, logprobs: 5 },
    "top-p 0.9, flat": { temperature: 1, topP: 0.9, flat: "all" },
    "top-p 0.9, one row flat": { temperature: 1, topP: 0.9, flat: "one" },
  };
}

/** A tail of normal numbers and, but for the first `flat` rows, 30 tokens over it. */
function logitsOf(vocab: number, flat: number): Tensor {
  const logits = device.tensor("float32", [ROWS, vocab]);
  const values = Float32Array.from(gaussian(1, 1, ROWS * vocab), (value, at) => {
    const [row, id] = [Math.floor(at / vocab), at % vocab];
    if (row < flat) return 0.001 * value;
    return id % 1601 === row ? 15 - 0.4 * (id - row) / 1601 : 2 * value;
  });
  (logits.data as Float32Array).set(values);
  return logits;
}

for (const vocab of VOCABULARIES) {
  const sampler = new Sampler(device, vocab);
  const logits = { none: logitsOf(vocab, 0), one: logitsOf(vocab, 1), all: logitsOf(vocab, ROWS) };
  for (const count of [1, ROWS]) {
    const group = `${vocab} tokens, ${count === 1 ? "1 row" : `${count} rows`}`;
    for (const [name, { flat = "none", ...params }] of Object.entries(kindsOf(vocab))) {
      const rows = Array.from({ length: count }, (_, row) => ({
        ...params,
        row,
        uniform: (row + 0.5) / ROWS,
      }));
      Deno.bench(`${name}, ${group}`, { group }, async () => {
        await sampler.sample(logits[flat], rows);
      });
    }
  }
}
