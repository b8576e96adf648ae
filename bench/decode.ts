/**
 * How fast a batch model prefills and decodes, and how contestants are compared: in turns, within
 * one process, by medians, because the same process started again differs by up to 1.4×. It owns
 * the turns and the clock. A contestant is a lembas lane (any `BatchModel`) or a peer.
 */
import type { BatchModel, ResidentAdapter, SampleRow } from "../src/executor/model.ts";
import { median, round, type Spread, spread } from "./stats.ts";

/** Tokens of each prompt before decoding, where nothing else is said. */
export const PROMPT = 64;

/** Something that decodes and prefills batches of sequences. */
export interface Contestant {
  readonly label: string;
  /** Most sequences it takes at once; undefined = any number. */
  readonly maxBatch?: number;
  /** Milliseconds of each of `steps` steps over `batch` sequences, after prompts of `behind` tokens. */
  decode(batch: number, steps: number, behind?: number): Promise<readonly number[]>;
  /** Milliseconds of filling `batch` empty sequences with prompts of `length` tokens. */
  prefill(batch: number, length: number): Promise<number>;
}

/** A contestant's figure in one phase. */
export interface Figure {
  readonly label: string;
  readonly tokensPerSecond: Spread;
  /** Milliseconds of a step (decode) or of the whole (prefill). */
  readonly ms: Spread;
  /** tokens/s over the reference's, the median of the rounds' ratios. */
  readonly ratios: Readonly<Record<string, number>>;
}

export interface Phase {
  readonly name: string;
  readonly figures: readonly Figure[];
}

/** A batch that is being decoded. */
export interface Decoding extends Disposable {
  /** Decodes a token of every row, behind `length` others. */
  step(length: number): Promise<void>;
}

/** A lane of lembas. Each step draws a greedy token for every row, as serving does. */
export class LaneContestant implements Contestant {
  readonly #model: BatchModel;
  readonly #adapter: (row: number) => ResidentAdapter | undefined;
  readonly maxBatch: number;

  constructor(
    readonly label: string,
    model: BatchModel,
    /** What each row has, prepared; undefined = base. */
    adapter: (row: number) => ResidentAdapter | undefined = () => undefined,
  ) {
    this.#model = model;
    this.#adapter = adapter;
    this.maxBatch = model.maxBatch;
  }

  async decode(batch: number, steps: number, behind = PROMPT): Promise<readonly number[]> {
    using decoding = await this.begin(batch, behind);
    const times: number[] = [];
    for (let step = 0; step < steps; step++) {
      const start = performance.now();
      await decoding.step(behind + step);
      times.push(performance.now() - start);
    }
    return times;
  }

  /** Sequences with prompts of so many tokens, one step at a time; dispose to free their slots. */
  async begin(batch: number, behind = PROMPT): Promise<Decoding> {
    let { tokens } = await this.#fill(batch, behind);
    const rows = greedyRows(batch);
    return {
      step: async (length) => {
        await this.#model.decode(tokens, new Array<number>(batch).fill(length));
        tokens = (await this.#model.sample(rows)).map(({ token }) => token);
      },
      [Symbol.dispose]: () => this.#free(batch),
    };
  }

  async prefill(batch: number, length: number): Promise<number> {
    const { ms } = await this.#fill(batch, length);
    this.#free(batch);
    return ms;
  }

  /** Fills slots 0 … batch-1 in as few runs as the model takes, a first token drawn for each. */
  async #fill(batch: number, length: number): Promise<{ ms: number; tokens: number[] }> {
    const model = this.#model;
    for (let slot = 0; slot < batch; slot++) model.setAdapter(slot, this.#adapter(slot));
    const perRun = Math.max(1, Math.floor(model.prefillTokens / length));
    const tokens: number[] = [];
    const start = performance.now();
    for (let first = 0; first < batch; first += perRun) {
      const count = Math.min(perRun, batch - first);
      const prompts = Array.from(
        { length: count },
        (_, i) => promptTokens(first + i, length, model),
      );
      let past = 0;
      while (past < length) {
        const behind = past;
        const end = Math.min(length, behind + model.chunkTokens(behind));
        await model.prefill(prompts.map((prompt, i) => ({
          slot: first + i,
          tokens: prompt.subarray(behind, end),
          past: behind,
          last: end === length,
        })));
        past = end;
      }
      for (const { token } of await model.sample(greedyRows(count))) tokens.push(token);
    }
    return { ms: performance.now() - start, tokens };
  }

  #free(batch: number): void {
    for (let slot = batch - 1; slot >= 0; slot--) {
      this.#model.setAdapter(slot, undefined);
      this.#model.free(slot);
    }
  }
}

/** Ordinary token ids, the same in every run and the peer's too. */
function promptTokens(seed: number, length: number, { vocabSize }: BatchModel): Int32Array {
  return Int32Array.from(
    { length },
    (_, i) => (1000 + (seed * 7919 + i * 104729) % 40000) % vocabSize,
  );
}

function greedyRows(count: number): SampleRow[] {
  return Array.from({ length: count }, (_, row) => ({ row, temperature: 0, uniform: 0 }));
}

export interface TurnOptions {
  readonly rounds: number;
  /** Contestants whose figures the others are divided by, by label. */
  readonly references: readonly string[];
}

/** Decodes with every contestant in turn, `rounds` times; a round's figure is its median step. */
export async function compareDecode(
  all: readonly Contestant[],
  batch: number,
  steps: number,
  options: TurnOptions,
  behind = PROMPT,
): Promise<Phase> {
  const contestants = fitting(all, batch);
  const measure = async (one: Contestant) => median(await one.decode(batch, steps, behind));
  const times = await takeTurns(contestants, options.rounds, measure);
  const name = `decode, batch ${batch}${behind === PROMPT ? "" : ` behind ${behind} tokens`}`;
  return phaseOf(name, contestants, times, batch, options.references);
}

/** Prefills with every contestant in turn; a round's figure is the median of `repeats` runs. */
export async function comparePrefill(
  all: readonly Contestant[],
  batch: number,
  length: number,
  repeats: number,
  options: TurnOptions,
): Promise<Phase> {
  const contestants = fitting(all, batch);
  const measure = async (one: Contestant) => {
    const runs: number[] = [];
    for (let i = 0; i < repeats; i++) runs.push(await one.prefill(batch, length));
    return median(runs);
  };
  const times = await takeTurns(contestants, options.rounds, measure);
  const name = batch === 1 ? `prefill, one of ${length}` : `prefill, ${batch} of ${length}`;
  return phaseOf(name, contestants, times, batch * length, options.references);
}

function fitting(contestants: readonly Contestant[], batch: number): readonly Contestant[] {
  return contestants.filter(({ maxBatch }) => maxBatch === undefined || maxBatch >= batch);
}

/** [contestant][round], each round in the order of contestants and every other one reversed. */
async function takeTurns(
  contestants: readonly Contestant[],
  rounds: number,
  measure: (one: Contestant) => Promise<number>,
): Promise<number[][]> {
  const times = contestants.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    const order = [...contestants.keys()];
    for (const index of round % 2 === 0 ? order : order.reverse()) {
      const one = contestants[index];
      if (one !== undefined) times[index]?.push(await measure(one));
    }
  }
  return times;
}

/** Times of rounds to figures. `tokens` are those of one step, or of one prefill. */
export function phaseOf(
  name: string,
  contestants: readonly { readonly label: string }[],
  times: readonly (readonly number[])[],
  tokens: number,
  references: readonly string[],
): Phase {
  const figures = contestants.map(({ label }, index) => {
    const own = times[index] ?? [];
    const ratios = Object.fromEntries(references.flatMap((reference) => {
      const other = times[contestants.findIndex((one) => one.label === reference)];
      if (other === undefined || reference === label) return [];
      return [[reference, round(median(own.map((ms, i) => (other[i] ?? NaN) / ms)), 3)]];
    }));
    const tokensPerSecond = spread(own.map((ms) => tokens / ms * 1e3), 0);
    return { label, tokensPerSecond, ms: spread(own, 2), ratios };
  });
  return { name, figures };
}

/** A phase in lines for people. */
export function describePhase({ name, figures }: Phase): string {
  const width = Math.max(...figures.map(({ label }) => label.length));
  const lines = figures.map(({ label, tokensPerSecond: t, ms, ratios }) => {
    const against = Object.entries(ratios).map(([other, ratio]) => `${ratio.toFixed(2)}× ${other}`);
    const speed = `${t.median} tok/s (${t.min}–${t.max})`;
    return `  ${label.padEnd(width)}  ${speed.padEnd(22)} ${ms.median} ms  ${against.join(", ")}`;
  });
  return [name, ...lines.map((line) => line.trimEnd())].join("\n");
}
