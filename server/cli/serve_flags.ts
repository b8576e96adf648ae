/** The command line of `deno task serve`, and what follows from several of its flags. */
import { isLoopback } from "../http/sites.ts";
import {
  type Environment,
  type Fault,
  FlagError,
  flagsHelp,
  type FlagValues,
  readCommandLine,
  refusal,
} from "./flags.ts";
import { MODEL_FLAGS } from "./serve/model_flags.ts";
import { SERVER_FLAGS } from "./serve/server_flags.ts";

const FLAGS = { ...MODEL_FLAGS, ...SERVER_FLAGS };

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
    | "enablePerRequestMetrics"
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
    /** Whether answers tell the times of their request. */
    readonly requestTimes: boolean;
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
    enablePerRequestMetrics,
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
    requestTimes: enablePerRequestMetrics === "true",
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
