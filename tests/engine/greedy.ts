/**
 * Greedy text straight from a `BatchModel`, rows prefilled in one call, then decoded together: what a
 * batch of rows must equal, however it is scheduled.
 */
import type { BatchModel, ResidentCore, Sampled } from "../../src/executor/model.ts";

/** A row: its prompt, and its core (none = the base). */
export interface GreedyRow {
  readonly prompt: readonly number[];
  readonly core?: ResidentCore | undefined;
}

/** Tokens drawn, and the model's natural log-probability of each. */
export interface Spoken {
  readonly tokens: number[];
  readonly logprobs: number[];
}

/** `count` tokens for each row, all rows in one batch. */
export async function greedy(
  model: BatchModel,
  rows: readonly GreedyRow[],
  count: number,
): Promise<Spoken[]> {
  rows.forEach(({ core }, slot) => model.setAdapter(slot, core));
  await model.prefill(
    rows.map(({ prompt }, slot) => ({ slot, tokens: prompt, past: 0, last: true })),
  );
  const spoken = rows.map((): Spoken => ({ tokens: [], logprobs: [] }));
  hear(spoken, await mostLikely(model, rows.length));
  for (let step = 1; step < count; step++) {
    const last = spoken.map(({ tokens }) => tokens[step - 1]);
    await model.decode(last, rows.map(({ prompt }) => prompt.length + step - 1));
    hear(spoken, await mostLikely(model, rows.length));
  }
  return spoken;
}

/** The most likely token of each of the first rows, with its log-probability. */
export function mostLikely(model: BatchModel, rows: number): Promise<readonly Sampled[]> {
  return model.sample(
    Array.from({ length: rows }, (_, row) => ({ row, temperature: 0, uniform: 0, logprobs: 0 })),
  );
}

function hear(spoken: readonly Spoken[], sampled: readonly Sampled[]): void {
  sampled.forEach(({ token, logprob = NaN }, row) => {
    spoken[row].tokens.push(token);
    spoken[row].logprobs.push(logprob);
  });
}
