/** The command line of `deno task factors`: its commands, their flags and their help. */
import type { Storage } from "../../../adapters/lotr/format.ts";
import { type MakerName, MAKERS } from "../../../adapters/lotr/make/makers.ts";
import {
  DEFAULT_MODULES,
  DEFAULT_RANK,
  MAX_RANK,
  MIN_RANK,
  parseModules,
} from "../../../adapters/lotr/stack.ts";
import type { ModuleName } from "../../../src/models/hook.ts";
import { COMPRESS_FLAGS, type CompressFlags, compressFlags } from "./compress_flags.ts";
import {
  anyText,
  camel,
  type Fault,
  type FlagTable,
  type FlagType,
  type FlagValues,
  integer,
  nearest,
  oneOf,
  readCommandLine,
} from "../flags.ts";

/** The base that gradients or weights are taken from, and what it is to read. */
export interface BaseFlags {
  /** Undefined = the packaged default. */
  readonly model: string | undefined;
  /** Undefined = the general text. */
  readonly calibration: string | undefined;
}

export interface MakeFlags extends BaseFlags {
  readonly maker: MakerName;
  readonly rank: number;
  readonly modules: readonly ModuleName[];
  readonly seed: number;
  readonly storage: Storage;
  readonly out: string;
}

/** What a factor set is measured against. */
export const ENERGIES = ["gradients", "weights"] as const;
export type EnergyOf = typeof ENERGIES[number];

export interface MeasureFlags extends BaseFlags {
  /** One file or more for `inspect`, two for `compare`. */
  readonly files: readonly string[];
  /** Undefined: no captured energy, which takes a base model. */
  readonly energy: EnergyOf | undefined;
  /** First directions of a set that count; undefined = all. */
  readonly rank: number | undefined;
  readonly output: "text" | "json";
}

export interface ExportFlags {
  readonly core: string;
  readonly factors: string;
  /** The directory to write. */
  readonly out: string;
  /** What PEFT users load the base by. */
  readonly baseModel: string;
}

/** What a command line asks for. */
export type FactorsCommand =
  | { readonly type: "help"; readonly of?: CommandName }
  | { readonly type: "make"; readonly flags: MakeFlags }
  | { readonly type: "compress"; readonly flags: CompressFlags }
  | { readonly type: "inspect"; readonly flags: MeasureFlags }
  | { readonly type: "compare"; readonly flags: MeasureFlags }
  | { readonly type: "export"; readonly flags: ExportFlags };

/** What PEFT users load the default base by. */
export const DEFAULT_BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct";

/** The flags of each command, to refuse one that would have no effect. */
const COMMANDS = {
  make: [
    "calibration",
    "captured",
    "clusters",
    "float16",
    "from-loras",
    "maker",
    "model",
    "modules",
    "out",
    "rank",
    "seed",
  ],
  inspect: ["calibration", "energy", "json", "model", "rank"],
  compare: ["calibration", "energy", "json", "model", "rank"],
  export: ["base", "core", "factors", "out"],
} as const satisfies Readonly<
  Record<Exclude<FactorsCommand["type"], "help" | "compress">, readonly (keyof typeof FLAGS)[]>
>;
export type CommandName = keyof typeof COMMANDS;

const FLAGS = {
  base: { type: anyText },
  calibration: { type: anyText },
  core: { type: anyText },
  energy: { type: known(ENERGIES) },
  factors: { type: anyText },
  maker: { type: known(MAKERS) },
  model: { type: anyText },
  modules: { type: anyText, alone: "" },
  out: { type: anyText },
  rank: { type: whole(MIN_RANK, MAX_RANK), list: "commas" },
  seed: { type: whole(0, 2 ** 32 - 1) },
  ...COMPRESS_FLAGS,
  float16: {},
  json: {},
} as const satisfies FlagTable;

/**
 * Reads a command line.
 * @throws {TypeError | RangeError} with one line that says what is wrong and what would be right
 */
export function parseFactorsCommand(args: readonly string[]): FactorsCommand {
  const line = {
    command: "factors",
    flags: FLAGS,
    asks: ["help"],
    words: "taken",
    refuse,
  } as const;
  const asked = readCommandLine(line, args, () => undefined);
  if (asked.type !== "run") {
    const of = args.find(isCommand);
    return of === undefined ? { type: "help" } : { type: "help", of };
  }
  const [command, ...rest] = asked.words;
  if (command === undefined) return { type: "help" };
  if (!isCommand(command)) {
    throw wrong(`unknown command '${command}'${meant(nearest(command, Object.keys(COMMANDS)))}`);
  }
  checkIdle(command, asked.values);
  switch (command) {
    case "make":
      if (asked.values.fromLoras.length > 0) {
        return { type: "compress", flags: compressFlags(asked.values, rest, wrong) };
      }
      checkNoFiles(rest);
      return { type: "make", flags: makeFlags(asked.values) };
    case "inspect":
      if (rest.length === 0) throw wrong("inspect needs a file");
      return { type: "inspect", flags: measureFlags(command, asked.values, rest) };
    case "compare":
      if (rest.length !== 2) throw wrong(`compare needs two factor files, got ${rest.length}`);
      return { type: "compare", flags: measureFlags(command, asked.values, rest) };
    case "export":
      checkNoFiles(rest);
      return { type: "export", flags: exportFlags(asked.values) };
  }
}

type Values = FlagValues<typeof FLAGS>;

function isCommand(word: string): word is CommandName {
  return word in COMMANDS;
}

/** A flag that the command would not look at is a mistake. */
function checkIdle(command: CommandName, values: Values): void {
  const looked: readonly string[] = COMMANDS[command];
  const names = Object.keys(FLAGS) as (keyof typeof FLAGS)[];
  const idle = names.find((name) =>
    isSaid(values[camel(name) as keyof Values]) && !looked.includes(name)
  );
  if (idle !== undefined) throw wrong(`${command} has no flag --${idle}`);
}

function isSaid(value: unknown): boolean {
  return value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0);
}

/** The only rank of a list that others than LoRAs' compression take. */
function onlyRank(ranks: readonly number[]): number | undefined {
  if (ranks.length < 2) return ranks[0];
  throw wrong(`--rank is ${ranks.join()}, several are for --from-loras`);
}

function checkNoFiles([first]: readonly string[]): void {
  if (first !== undefined) throw wrong(`'${first}' is no flag`);
}

function makeFlags(values: Values): MakeFlags {
  const { model, calibration, maker = "gradient", seed } = values;
  const alone = (["clusters", "captured"] as const).find((name) => values[name] !== undefined);
  if (alone !== undefined) throw wrong(`--${alone} is for --from-loras`);
  if (calibration !== undefined && maker !== "gradient") {
    throw wrong(`--calibration is for the gradient maker, --maker is '${maker}'`);
  }
  if (seed !== undefined && maker !== "random" && maker !== "gaussian") {
    throw wrong(`--seed is for random and gaussian, --maker is '${maker}'`);
  }
  return {
    model,
    calibration,
    maker,
    rank: onlyRank(values.rank) ?? DEFAULT_RANK,
    modules: modulesOf(values.modules ?? DEFAULT_MODULES.join()),
    seed: seed ?? 0,
    storage: values.float16 ? "float16" : "float32",
    out: needed("out", values.out, "the file to write"),
  };
}

function modulesOf(text: string): readonly ModuleName[] {
  try {
    return parseModules(text.split(","));
  } catch (error) {
    throw wrong(`--modules is '${text}', ${error instanceof Error ? error.message : error}`);
  }
}

function measureFlags(
  command: "inspect" | "compare",
  values: Values,
  files: readonly string[],
): MeasureFlags {
  const { energy, model, calibration, json } = values;
  const rank = onlyRank(values.rank);
  if (energy !== "gradients" && calibration !== undefined) {
    throw wrong("--calibration is for --energy gradients");
  }
  const idle = command === "compare" ? ["model"] as const : ["model", "rank", "json"] as const;
  const without = idle.find((name) => energy === undefined && isSaid(values[name]));
  if (without !== undefined) {
    throw wrong(`--${without} is for --energy ${ENERGIES.join(" or ")}`);
  }
  return { files, energy, model, calibration, rank, output: json ? "json" : "text" };
}

function exportFlags({ core, factors, out, base }: Values): ExportFlags {
  return {
    core: needed("core", core, "a core file"),
    factors: needed("factors", factors, "its factor file"),
    out: needed("out", out, "the directory to write"),
    baseModel: base ?? DEFAULT_BASE_NAME,
  };
}

function needed(name: string, value: string | undefined, what: string): string {
  if (value !== undefined) return value;
  throw wrong(`--${name} is missing: ${what}`);
}

function whole(least: number, most: number): FlagType<number> {
  return {
    ...integer(least, most),
    right: `a whole number from ${least} to ${most} is wanted`,
  };
}

function known<const T extends string>(words: readonly T[]): FlagType<T> {
  return { ...oneOf(words), right: `known are ${words.join(", ")}` };
}

function meant(guess: string | undefined, prefix = ""): string {
  return guess === undefined ? "" : ` (did you mean ${prefix}${guess}?)`;
}

function refuse(fault: Fault): TypeError {
  switch (fault.type) {
    case "word":
      return wrong(`'${fault.word}' is no flag`);
    case "unknown":
      return wrong(`unknown flag ${fault.flag}${meant(fault.meant, "--")}`);
    case "empty":
      return wrong(`--${fault.flag} is missing: it needs a value`);
    case "value":
      return wrong(`--${fault.flag} is '${fault.text}', ${fault.right}`);
  }
}

function wrong(what: string): TypeError {
  return new TypeError(`Cannot follow the command line: ${what}; --help shows what there is`);
}
