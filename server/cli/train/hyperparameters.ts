/**
 * Hyperparameters as text: from flags, and from a sweep's lists of them. It owns which values are
 * accepted and the words of a refusal; what they do is the trainer's.
 */
import { MAX_RANK } from "../../../adapters/lotr/stack.ts";
import {
  DEFAULT_HYPERPARAMETERS,
  type Hyperparameters,
  METHODS,
  SCHEDULES,
} from "../../../adapters/training/training.ts";
import { FlagError } from "../serve_flags.ts";
import { nearest } from "../nearest.ts";

/** By flag; each can also be swept. */
export const HYPERPARAMETER_FLAGS = {
  epochs: { value: "N|auto", help: "passes over the data", key: "epochs" },
  "batch-size": { value: "N|auto", help: "rows of an optimizer step", key: "batchSize" },
  "learning-rate-multiplier": {
    value: "X|auto",
    help: "multiplies the rule's learning rate",
    key: "learningRateMultiplier",
  },
  rank: {
    value: `1-${MAX_RANK}|auto`,
    help: `the core's rank; auto = the factor set's, at most ${DEFAULT_HYPERPARAMETERS.rank}`,
    key: "rank",
  },
  method: {
    value: METHODS.join("|"),
    help: "core trains G alone; lotr trains A, B and G, and yields a factor set of its own",
    key: "method",
  },
  schedule: {
    value: SCHEDULES.join("|"),
    help: "how the learning rate falls after the warm-up",
    key: "schedule",
  },
  warmup: { value: "F", help: "share of the steps with a rising learning rate", key: "warmup" },
  "weight-decay": { value: "F", help: "decoupled weight decay", key: "weightDecay" },
  clip: { value: "F", help: "largest L2 norm of a step's gradient", key: "clip" },
  patience: {
    value: "N",
    help: "evaluations without a better validation loss before it stops; 0 = never",
    key: "patience",
  },
  seed: { value: "N", help: "order of the rows; the same seed gives the same core", key: "seed" },
} as const satisfies Readonly<
  Record<string, { value: string; help: string; key: keyof Hyperparameters }>
>;

/** Hyperparameters as asked: "auto" ranks are settled once the factor set is known. */
export type AskedHyperparameters = Omit<Hyperparameters, "rank"> & {
  readonly rank: number | "auto";
};
export type HyperparameterName = keyof typeof HYPERPARAMETER_FLAGS;
export const HYPERPARAMETER_NAMES = Object.keys(HYPERPARAMETER_FLAGS) as HyperparameterName[];

/** A sweep's runs, each by the values that set it apart; a run alone has none. */
export type Variant = ReadonlyMap<HyperparameterName, string>;

const MAX_EPOCHS = 10_000;
const MAX_BATCH = 65_536;
const MAX_MULTIPLIER = 1e4;
/** Runs of one sweep: their micro-batches are shared, their memory is not. */
export const MAX_VARIANTS = 64;

/**
 * Hyperparameters from their texts; undefined = the default.
 * @throws {FlagError} naming the flag, its value and what would be right.
 */
export function toHyperparameters(
  read: (name: HyperparameterName) => string | undefined,
): AskedHyperparameters {
  const value = (name: HyperparameterName): string => read(name) ?? defaultText(name);
  return {
    epochs: orAuto(value("epochs"), (text) => whole("epochs", text, 1, MAX_EPOCHS)),
    batchSize: orAuto(value("batch-size"), (text) => whole("batch-size", text, 1, MAX_BATCH)),
    learningRateMultiplier: orAuto(
      value("learning-rate-multiplier"),
      (text) => real("learning-rate-multiplier", text, { above: 0, most: MAX_MULTIPLIER }),
    ),
    rank: orAuto(value("rank"), (text) => whole("rank", text, 1, MAX_RANK)),
    method: choice("method", value("method"), METHODS),
    schedule: choice("schedule", value("schedule"), SCHEDULES),
    warmup: real("warmup", value("warmup"), { least: 0, below: 1 }),
    weightDecay: real("weight-decay", value("weight-decay"), { least: 0, most: 10 }),
    clip: real("clip", value("clip"), { above: 0, most: 1e9 }),
    patience: whole("patience", value("patience"), 0, 1_000_000),
    seed: whole("seed", value("seed"), 0, 2 ** 32 - 1),
  };
}

/** The default as a flag's value. */
export function defaultText(name: HyperparameterName): string {
  return name === "rank" ? "auto" : String(DEFAULT_HYPERPARAMETERS[HYPERPARAMETER_FLAGS[name].key]);
}

/** @throws {RangeError} where the factor set has no such rank. */
export function settleRank(asked: AskedHyperparameters, factorRank: number): Hyperparameters {
  const { rank } = asked;
  if (rank === "auto") {
    return { ...asked, rank: Math.min(DEFAULT_HYPERPARAMETERS.rank, factorRank) };
  }
  if (rank <= factorRank) return { ...asked, rank };
  throw new RangeError(
    `Cannot train at rank ${rank}: the factor set has rank ${factorRank}, which is the most.`,
  );
}

/**
 * `"rank=16,32;seed=1,2"` → every combination, the first list varying slowest.
 * @throws {FlagError} naming the part that cannot be, or for more than 64 runs.
 */
export function parseSweep(text: string): readonly Variant[] {
  const lists = text.split(";").map((part) => part.trim()).filter((part) => part !== "")
    .map(parseList);
  if (lists.length === 0) {
    throw new FlagError("Cannot use --sweep: it is empty, e.g. rank=16,32;seed=1,2 is wanted.");
  }
  const names = lists.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new FlagError(`Cannot use --sweep: it names ${twice} twice.`);
  const count = lists.reduce((product, { values }) => product * values.length, 1);
  if (count > MAX_VARIANTS) {
    throw new FlagError(
      `Cannot use --sweep: it asks for ${count} runs, it may for at most ${MAX_VARIANTS}.`,
    );
  }
  return lists.reduce<Variant[]>(
    (variants, { name, values }) =>
      variants.flatMap((variant) => values.map((value) => new Map([...variant, [name, value]]))),
    [new Map()],
  );
}

/** `rank=16 seed=2`; empty for a run alone. */
export function variantLabel(variant: Variant): string {
  return [...variant].map(([name, value]) => `${name}=${value}`).join(" ");
}

function parseList(part: string): { name: HyperparameterName; values: readonly string[] } {
  const [key = "", list] = part.split("=", 2).map((side) => side.trim());
  const name = HYPERPARAMETER_NAMES.find((one) => one === key);
  if (name === undefined) {
    const near = nearest(key, HYPERPARAMETER_NAMES);
    throw new FlagError(
      `Cannot use --sweep: '${key}' is no hyperparameter` +
        `${near === undefined ? "" : `; did you mean '${near}'?`} Known are ${
          HYPERPARAMETER_NAMES.join(", ")
        }.`,
    );
  }
  const values = [...new Set((list ?? "").split(",").map((value) => value.trim()))];
  if (values.includes("")) {
    throw new FlagError(`Cannot use --sweep: '${part}' lacks a value, as in rank=16,32.`);
  }
  return { name, values };
}

function orAuto<T>(text: string, parse: (text: string) => T): T | "auto" {
  return text === "auto" ? "auto" : parse(text);
}

function whole(name: HyperparameterName, text: string, low: number, high: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= low && value <= high) return value;
  throw wrong(name, text, `an integer from ${low} to ${high}`);
}

interface Range {
  readonly least?: number;
  readonly above?: number;
  readonly most?: number;
  readonly below?: number;
}

function real(name: HyperparameterName, text: string, range: Range): number {
  const { least = -Infinity, above = -Infinity, most = Infinity, below = Infinity } = range;
  const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
  if (value >= least && value > above && value <= most && value < below) return value;
  const low = range.above === undefined ? `from ${least}` : `above ${above}`;
  const high = range.below === undefined ? `to ${most}` : `to below ${below}`;
  throw wrong(name, text, `a number ${low} ${high}`);
}

function choice<T extends string>(
  name: HyperparameterName,
  text: string,
  choices: readonly T[],
): T {
  const found = choices.find((one) => one === text);
  if (found !== undefined) return found;
  throw wrong(name, text, choices.join(", "));
}

function wrong(name: HyperparameterName, text: string, right: string): FlagError {
  const auto = HYPERPARAMETER_FLAGS[name].value.endsWith("auto") ? ", or auto" : "";
  return new FlagError(
    `Cannot use --${name}: current value is '${text}', it must be ${right}${auto}.`,
  );
}
