/**
 * Hyperparameters on the command line: a flag for each row of their table, and sweeps, which are lists
 * of such flags' values.
 */
import {
  type AskedHyperparameters,
  type Hyperparameter,
  HYPERPARAMETER_NAMES,
  type HyperparameterName,
  HYPERPARAMETERS,
  isWithin,
  type Range,
  rangeText,
} from "../../../adapters/training/hyperparameters.ts";
import { type Fault, FlagError, type FlagType, nearest, refusal, type ToldFlag } from "../flags.ts";

type Hyphens<S extends string> = S extends `${infer C}${infer Rest}`
  ? `${C extends Lowercase<C> ? C : `-${Lowercase<C>}`}${Hyphens<Rest>}`
  : S;
type FlagName<N extends HyperparameterName> = Hyphens<N>;
export type HyperparameterFlag = FlagName<HyperparameterName>;

/** `--batch-size` for `batchSize`. */
export const HYPERPARAMETER_FLAGS = Object.fromEntries(
  HYPERPARAMETER_NAMES.map((name) => [flagName(name), flagOf(HYPERPARAMETERS[name])]),
) as {
  readonly [N in HyperparameterName as FlagName<N>]:
    & ToldFlag<AskedHyperparameters[N]>
    & { readonly fallback: string };
};
export const HYPERPARAMETER_FLAG_NAMES = Object.keys(HYPERPARAMETER_FLAGS) as HyperparameterFlag[];

function flagName(name: HyperparameterName): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function flagOf(row: Hyperparameter): ToldFlag {
  const { value, help, auto, fallback } = row;
  return {
    value: auto === undefined ? value : `${value}|auto`,
    help,
    type: typeOf(row),
    fallback: String(fallback),
  };
}

function typeOf(row: Hyperparameter): FlagType<number | string> {
  return {
    read: (text) => {
      if (text === "auto" && row.auto !== undefined) return text;
      const value = NUMBERS[row.range.type].test(text) ? Number(text) : text;
      return isWithin(row.range, value) ? value : undefined;
    },
    right: rangeText(row),
  };
}

const NUMBERS: Readonly<Record<Range["type"], RegExp>> = {
  whole: /^\d+$/,
  real: /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i,
  word: /^(?!)/,
};

/** A sweep's runs, each by the values that set it apart; a run alone has none. */
export type Variant = ReadonlyMap<HyperparameterFlag, string>;

/** Runs of one sweep: their micro-batches are shared, their memory is not. */
export const MAX_VARIANTS = 64;

/**
 * The hyperparameters of a sweep's run.
 * @throws {FlagError} naming the flag, its value and what would be right.
 */
export function withVariant(asked: AskedHyperparameters, variant: Variant): AskedHyperparameters {
  const values = [...variant].map(([flag, text]) => {
    const { type } = HYPERPARAMETER_FLAGS[flag];
    const value = type.read(text);
    const fault: Fault = { type: "value", flag, text, right: type.right };
    if (value === undefined) throw refusal(fault, "train");
    return [HYPERPARAMETER_NAMES.find((name) => flagName(name) === flag), value];
  });
  return { ...asked, ...Object.fromEntries(values) };
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

function parseList(part: string): { name: HyperparameterFlag; values: readonly string[] } {
  const [key = "", list] = part.split("=", 2).map((side) => side.trim());
  const name = HYPERPARAMETER_FLAG_NAMES.find((one) => one === key);
  if (name === undefined) {
    const near = nearest(key, HYPERPARAMETER_FLAG_NAMES);
    throw new FlagError(
      `Cannot use --sweep: '${key}' is no hyperparameter` +
        `${near === undefined ? "" : `; did you mean '${near}'?`} Known are ${
          HYPERPARAMETER_FLAG_NAMES.join(", ")
        }.`,
    );
  }
  const values = [...new Set((list ?? "").split(",").map((value) => value.trim()))];
  if (values.includes("")) {
    throw new FlagError(`Cannot use --sweep: '${part}' lacks a value, as in rank=16,32.`);
  }
  return { name, values };
}
