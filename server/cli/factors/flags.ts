/**
 * The command line of `deno task factors`: its commands, their flags and their help. It owns parsing
 * and its error texts; it opens no file and makes nothing.
 */
import { parseArgs } from "@std/cli/parse-args";
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
import { nearest } from "../flags.ts";

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
  | { readonly type: "help" }
  | { readonly type: "make"; readonly flags: MakeFlags }
  | { readonly type: "inspect"; readonly flags: MeasureFlags }
  | { readonly type: "compare"; readonly flags: MeasureFlags }
  | { readonly type: "export"; readonly flags: ExportFlags };

const DEFAULT_BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct";

/** The flags of each command, to refuse one that would have no effect. */
const FLAGS: Readonly<Record<Exclude<FactorsCommand["type"], "help">, readonly string[]>> = {
  make: ["calibration", "float16", "maker", "model", "modules", "out", "rank", "seed"],
  inspect: ["calibration", "energy", "json", "model", "rank"],
  compare: ["calibration", "energy", "json", "model", "rank"],
  export: ["base", "core", "factors", "out"],
};

export const FACTORS_HELP = `Make a factor set:
  deno task factors make --out FILE [--maker ${MAKERS.join("|")}] [--model SPEC]
                    [--calibration FILE] [--rank 1-${MAX_RANK}, default ${DEFAULT_RANK}]
                    [--modules ${DEFAULT_MODULES.join(",")}] [--seed N, default 0] [--float16]
Show factor or core files; with --energy, what the factors hold of a base's gradients or weights:
  deno task factors inspect FILE... [--energy ${ENERGIES.join("|")}] [--model SPEC]
                    [--calibration FILE] [--rank N] [--json]
Compare two factor sets: principal angles between what they span, and captured energy:
  deno task factors compare FILE FILE [--energy ${ENERGIES.join("|")}] [--model SPEC]
                    [--calibration FILE] [--rank N] [--json]
Write a core as a PEFT LoRA directory:
  deno task factors export --core FILE --factors FILE --out DIR [--base NAME]

gradient  the leading directions of the first-step gradients of language modelling over general
          text, or over --calibration (Tucker-2); the best for cores, and the default
random    A and B orthonormal, spanning random directions; needs no weights
gaussian  A and B ~ N(0, 1) and s = 1/rank, as in arXiv 2402.01376
svd       the leading directions of the stacked weights (Tucker-2); seconds for q and v, minutes for all

--calibration is plain text, passages parted by empty lines, or JSONL as for training; the default
is the general text that lembas brings. --rank of inspect and compare: the first N directions only.
`;

/**
 * Reads a command line.
 * @throws {TypeError | RangeError} with one line that says what is wrong and what would be right
 */
export function parseFactorsCommand(args: readonly string[]): FactorsCommand {
  const flags = parseFlags(args);
  const [command, ...rest] = flags._.map(String);
  if (flags.help || command === undefined) return { type: "help" };
  if (!isCommand(command)) refuse(`unknown command '${command}'${meant(command, COMMANDS)}`);
  checkFlags(command, flags);
  switch (command) {
    case "make":
      checkNoFiles(rest);
      return { type: "make", flags: makeFlags(flags) };
    case "inspect":
      if (rest.length === 0) refuse("inspect needs a file");
      return { type: "inspect", flags: measureFlags(command, flags, rest) };
    case "compare":
      if (rest.length !== 2) refuse(`compare needs two factor files, got ${rest.length}`);
      return { type: "compare", flags: measureFlags(command, flags, rest) };
    case "export":
      checkNoFiles(rest);
      return { type: "export", flags: exportFlags(flags) };
  }
}

type CommandName = keyof typeof FLAGS;
const COMMANDS = Object.keys(FLAGS);

function isCommand(word: string): word is CommandName {
  return COMMANDS.includes(word);
}

type Parsed = ReturnType<typeof parseFlags>;

function parseFlags(args: readonly string[]) {
  const known = [...new Set(Object.values(FLAGS).flat())];
  const boolean = ["float16", "json", "help"] as const;
  return parseArgs([...args], {
    string: [
      "base",
      "calibration",
      "core",
      "energy",
      "factors",
      "maker",
      "model",
      "modules",
      "out",
      "rank",
      "seed",
    ],
    boolean: [...boolean],
    alias: { help: "h" },
    unknown: (arg, key) =>
      key === undefined ? undefined : refuse(`unknown flag ${arg}${meant(key, known, "--")}`),
  });
}

/** A flag that the command would not look at is a mistake. */
function checkFlags(command: CommandName, flags: Parsed): void {
  const given = Object.entries(flags)
    .filter(([, value]) => value !== undefined && value !== false)
    .map(([name]) => name);
  const idle = given.find((name) => name !== "_" && !FLAGS[command].includes(name));
  if (idle !== undefined) refuse(`${command} has no flag --${idle}`);
}

function checkNoFiles([first]: readonly string[]): void {
  if (first !== undefined) refuse(`'${first}' is no flag`);
}

function makeFlags(flags: Parsed): MakeFlags {
  const maker = MAKERS.find((name) => name === (flags.maker ?? "gradient"));
  if (maker === undefined) refuse(`--maker is '${flags.maker}', known are ${MAKERS.join(", ")}`);
  if (flags.calibration !== undefined && maker !== "gradient") {
    refuse(`--calibration is for the gradient maker, --maker is '${maker}'`);
  }
  if (flags.seed !== undefined && maker !== "random" && maker !== "gaussian") {
    refuse(`--seed is for random and gaussian, --maker is '${maker}'`);
  }
  return {
    model: flags.model,
    calibration: flags.calibration,
    maker,
    rank: whole("rank", flags.rank ?? `${DEFAULT_RANK}`, MIN_RANK, MAX_RANK),
    modules: parseModules((flags.modules ?? DEFAULT_MODULES.join()).split(",")),
    seed: whole("seed", flags.seed ?? "0", 0, 2 ** 32 - 1),
    storage: flags.float16 ? "float16" : "float32",
    out: flags.out || refuse("--out is missing: the file to write"),
  };
}

function measureFlags(
  command: "inspect" | "compare",
  flags: Parsed,
  files: readonly string[],
): MeasureFlags {
  const energy = ENERGIES.find((name) => name === flags.energy);
  if (flags.energy !== undefined && energy === undefined) {
    refuse(`--energy is '${flags.energy}', known are ${ENERGIES.join(", ")}`);
  }
  if (energy !== "gradients" && flags.calibration !== undefined) {
    refuse("--calibration is for --energy gradients");
  }
  const idle = command === "compare" ? ["model"] : ["model", "rank", "json"];
  const without = idle.find((name) => energy === undefined && flags[name]);
  if (without !== undefined) refuse(`--${without} is for --energy ${ENERGIES.join(" or ")}`);
  return {
    files,
    energy,
    model: flags.model,
    calibration: flags.calibration,
    rank: flags.rank === undefined ? undefined : whole("rank", flags.rank, MIN_RANK, MAX_RANK),
    output: flags.json ? "json" : "text",
  };
}

function exportFlags(flags: Parsed): ExportFlags {
  return {
    core: flags.core || refuse("--core is missing: a core file"),
    factors: flags.factors || refuse("--factors is missing: its factor file"),
    out: flags.out || refuse("--out is missing: the directory to write"),
    baseModel: flags.base ?? DEFAULT_BASE_NAME,
  };
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(value >= least && value <= most)) {
    refuse(`--${name} is '${text}', a whole number from ${least} to ${most} is wanted`);
  }
  return value;
}

function meant(word: string, candidates: readonly string[], prefix = ""): string {
  const guess = nearest(word, candidates);
  return guess === undefined ? "" : ` (did you mean ${prefix}${guess}?)`;
}

function refuse(what: string): never {
  throw new TypeError(`Cannot follow the command line: ${what}; --help shows what there is`);
}
