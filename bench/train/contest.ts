/**
 * Contestants of training speed and how they take turns: each trains on the very same rows in the
 * very same batches, and says how long its steps took.
 */
import { median, type Spread, spread } from "../stats.ts";
import type { Example } from "../../src/train/gradients/model.ts";

/** Rows and the batches of one optimizer step each. */
export interface Work {
  readonly rows: readonly Example[];
  /** Rows of an optimizer step. */
  readonly batch: number;
  readonly epochs: number;
  readonly rank: number;
}

export interface Contestant {
  readonly label: string;
  /** Seconds of each step, the optimizer included. */
  steps(work: Work): Promise<readonly number[]>;
}

export interface Comparison {
  /** By contestant. */
  readonly tokensPerSecond: Readonly<Record<string, Spread>>;
  /** The first contestant against the fastest of the others, median of the rounds' ratios. */
  readonly ratio: number | undefined;
}

/** Tokens of all rows, as often as they are trained on; padding is nobody's merit. */
export function tokensOf({ rows, epochs }: Pick<Work, "rows" | "epochs">): number {
  return epochs * rows.reduce((sum, { tokens }) => sum + tokens.length, 0);
}

/** Each trains once to warm up, then all in turns; `tell` hears of each turn. */
export async function takeTurns(
  contestants: readonly Contestant[],
  work: Work,
  rounds: number,
  tell: (line: string) => void,
): Promise<Comparison> {
  const speeds = new Map(contestants.map(({ label }) => [label, [] as number[]]));
  for (let round = 0; round <= rounds; round++) {
    for (const one of contestants) {
      const seconds = (await one.steps(work)).reduce((sum, value) => sum + value, 0);
      if (round === 0) continue;
      const speed = tokensOf(work) / seconds;
      speeds.get(one.label)?.push(speed);
      tell(`    ${one.label}: ${speed.toFixed(0)} tok/s`);
    }
  }
  return compare(speeds);
}

/** @param speeds of each contestant, by round, the first one's first */
export function compare(speeds: ReadonlyMap<string, readonly number[]>): Comparison {
  const [own, ...others] = speeds.values();
  const fastest = others.toSorted((a, b) => median(b) - median(a))[0];
  const ratios = fastest === undefined ? [] : own.map((speed, i) => speed / fastest[i]);
  return {
    tokensPerSecond: Object.fromEntries([...speeds].map(([label, all]) => [label, spread(all)])),
    ratio: ratios.length === 0 ? undefined : Number(median(ratios).toFixed(2)),
  };
}
