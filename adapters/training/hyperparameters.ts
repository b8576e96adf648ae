/**
 * The hyperparameters of training, each once: its type, range, default and meaning. The API's schema
 * and answers, the command line with its help and sweeps, the check before training and the identity
 * of a training checkpoint are all made of this table.
 */
import { DEFAULT_RANK, MAX_RANK } from "../lotr/stack.ts";

/** `core`: A and B stay frozen. `lotr`: A, B and G are trained (the paper), a new factor set results. */
export const METHODS = ["core", "lotr"] as const;
export type TrainMethod = typeof METHODS[number];

/** How the learning rate falls after the warm-up. */
export const SCHEDULES = ["cosine", "linear", "constant"] as const;

/** Numbers between bounds, or words. */
export type Range =
  | { readonly type: "whole"; readonly least: number; readonly most: number }
  /** `from` is in the range, `above` is not; `to` is, `below` is not. */
  | {
    readonly type: "real";
    readonly low: { readonly from: number } | { readonly above: number };
    readonly high: { readonly to: number } | { readonly below: number };
  }
  | { readonly type: "word"; readonly words: readonly string[] };

export interface Hyperparameter {
  /** In a sentence: "the batch size". */
  readonly title: string;
  /** Its field of the HTTP API. */
  readonly field: string;
  /** Whether OpenAI's API has it too. */
  readonly origin: "OpenAI" | "lembas";
  /** What stands for a number in the command line's help. */
  readonly value: string;
  readonly help: string;
  readonly range: Range;
  /** What "auto" does; undefined where there is none. */
  readonly auto?: string;
  readonly fallback: number | string;
}

/** By their names in the library; the command line's flags are these with hyphens. */
export const HYPERPARAMETERS = {
  epochs: {
    title: "number of epochs",
    field: "n_epochs",
    origin: "OpenAI",
    value: "N",
    help: "passes over the data",
    range: { type: "whole", least: 1, most: 10_000 },
    auto: "3; more, up to 10, where 3 would see fewer than 300 rows; fewer beyond 75,000",
    fallback: "auto",
  },
  batchSize: {
    title: "batch size",
    field: "batch_size",
    origin: "OpenAI",
    value: "N",
    help: "rows of an optimizer step",
    range: { type: "whole", least: 1, most: 65_536 },
    auto: "a fiftieth of the rows, 4 to 16",
    fallback: "auto",
  },
  learningRateMultiplier: {
    title: "learning rate multiplier",
    field: "learning_rate_multiplier",
    origin: "OpenAI",
    value: "X",
    help: "multiplies the rule's learning rate",
    range: { type: "real", low: { above: 0 }, high: { to: 10_000 } },
    auto: "1",
    fallback: "auto",
  },
  rank: {
    title: "rank",
    field: "rank",
    origin: "lembas",
    value: `1-${MAX_RANK}`,
    help: `the core's rank; auto = the factor set's, at most ${DEFAULT_RANK}`,
    range: { type: "whole", least: 1, most: MAX_RANK },
    auto: `the factor set's, at most ${DEFAULT_RANK}`,
    fallback: "auto",
  },
  method: {
    title: "method",
    field: "method",
    origin: "lembas",
    value: METHODS.join("|"),
    help: "core trains G alone; lotr trains A, B and G, and yields a factor set of its own",
    range: { type: "word", words: METHODS },
    fallback: "core",
  },
  schedule: {
    title: "schedule",
    field: "schedule",
    origin: "lembas",
    value: SCHEDULES.join("|"),
    help: "how the learning rate falls after the warm-up",
    range: { type: "word", words: SCHEDULES },
    fallback: "cosine",
  },
  warmup: {
    title: "warm-up",
    field: "warmup",
    origin: "lembas",
    value: "F",
    help: "share of the steps with a rising learning rate",
    range: { type: "real", low: { from: 0 }, high: { below: 1 } },
    fallback: 0.05,
  },
  weightDecay: {
    title: "weight decay",
    field: "weight_decay",
    origin: "lembas",
    value: "F",
    help: "decoupled weight decay",
    range: { type: "real", low: { from: 0 }, high: { to: 10 } },
    fallback: 0,
  },
  clip: {
    title: "clip",
    field: "clip",
    origin: "lembas",
    value: "F",
    help: "largest L2 norm of a step's gradient",
    range: { type: "real", low: { above: 0 }, high: { to: 1e9 } },
    fallback: 1,
  },
  patience: {
    title: "patience",
    field: "patience",
    origin: "lembas",
    value: "N",
    help: "evaluations without a better validation loss before it stops; 0 = never",
    range: { type: "whole", least: 0, most: 1_000_000 },
    fallback: 6,
  },
  seed: {
    title: "seed",
    field: "seed",
    origin: "OpenAI",
    value: "N",
    help: "order of the rows; the same seed gives the same core",
    range: { type: "whole", least: 0, most: 2 ** 32 - 1 },
    fallback: 0,
  },
} as const satisfies Readonly<Record<string, Hyperparameter>>;

type Table = typeof HYPERPARAMETERS;
export type HyperparameterName = keyof Table;
export const HYPERPARAMETER_NAMES = Object.keys(HYPERPARAMETERS) as HyperparameterName[];

const { seed: _, ...ofRecord } = HYPERPARAMETERS;
/** Those of a job's record and of the API's `hyperparameters`: the seed is the job's own field. */
export const JOB_HYPERPARAMETERS = ofRecord;

type ValueOf<R> =
  | (R extends { readonly range: { readonly words: readonly (infer W)[] } } ? W : number)
  | (R extends { readonly auto: string } ? "auto" : never);

/** How to train, as asked for; "auto" is settled from data and factor set, and reported. */
export type AskedHyperparameters = { readonly [N in HyperparameterName]: ValueOf<Table[N]> };

/** How to train over a factor set, whose rank is known. */
export interface Hyperparameters extends Omit<AskedHyperparameters, "rank"> {
  readonly rank: number;
}

/** What a caller who says nothing gets. */
export const ASKED_BY_DEFAULT = Object.fromEntries(
  HYPERPARAMETER_NAMES.map((name) => [name, HYPERPARAMETERS[name].fallback]),
) as AskedHyperparameters;

/** The same for factor sets of the usual rank. */
export const DEFAULT_HYPERPARAMETERS: Hyperparameters = { ...ASKED_BY_DEFAULT, rank: DEFAULT_RANK };

/**
 * "auto" as a rank becomes the factor set's, at most 32.
 * @throws {RangeError} where the factor set has no such rank
 */
export function settleRank(asked: AskedHyperparameters, factorRank: number): Hyperparameters {
  const { rank } = asked;
  if (rank === "auto") return { ...asked, rank: Math.min(DEFAULT_RANK, factorRank) };
  if (rank <= factorRank) return { ...asked, rank };
  throw new RangeError(
    `Cannot train at rank ${rank}: the factor set has rank ${factorRank}, which is the most.`,
  );
}

/** Whether a value is in a range. */
export function isWithin(range: Range, value: unknown): boolean {
  if (range.type === "word") return range.words.some((word) => word === value);
  if (typeof value !== "number" || !Number.isFinite(value)) return false;
  if (range.type === "whole") {
    return Number.isInteger(value) && value >= range.least && value <= range.most;
  }
  const { low, high } = range;
  return ("from" in low ? value >= low.from : value > low.above) &&
    ("to" in high ? value <= high.to : value < high.below);
}

/** "an integer from 1 to 64, or auto" */
export function rangeText({ range, auto }: Hyperparameter): string {
  return `${boundsText(range)}${auto === undefined ? "" : ", or auto"}`;
}

function boundsText(range: Range): string {
  if (range.type === "word") return range.words.join(", ");
  if (range.type === "whole") return `an integer from ${range.least} to ${range.most}`;
  const { low, high } = range;
  return `a number ${"from" in low ? `from ${low.from}` : `above ${low.above}`} ` +
    ("to" in high ? `to ${high.to}` : `to below ${high.below}`);
}

/** @throws {RangeError} naming the hyperparameter that cannot be, its value and what may be */
export function checkHyperparameters(asked: AskedHyperparameters): void {
  for (const name of HYPERPARAMETER_NAMES) {
    const row: Hyperparameter = HYPERPARAMETERS[name];
    const value = asked[name];
    if (value === "auto" && row.auto !== undefined || isWithin(row.range, value)) continue;
    throw new RangeError(
      `Cannot train: the ${row.title} is ${rangeText(row)}, current value is ${value}`,
    );
  }
}
