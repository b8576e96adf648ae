/**
 * The command line of `deno task admin`: where the server or its store is, and which command with
 * which words. It owns parsing and its error texts; what the commands do is theirs.
 */
import { shownAddress } from "../../../src/checkpoint/fetch/secrets.ts";
import { parseArgs } from "@std/cli/parse-args";
import { FlagError, nearest } from "../flags.ts";
import { COMMANDS } from "./commands.ts";
import type { AdminCommand } from "./output.ts";

/** Where the command works: over HTTP, or on a store that no server of this machine has open. */
export type Where =
  | { readonly type: "server"; readonly url: string; readonly apiKey: string | undefined }
  | { readonly type: "embedded"; readonly data: string }
  | { readonly type: "postgres"; readonly url: string };

export interface AdminFlags {
  readonly command: AdminCommand;
  readonly words: readonly string[];
  readonly where: Where;
  /** How results are printed. */
  readonly format: "text" | "json";
  /** A flag of the command itself, as it was given. */
  readonly value: (name: string) => string | undefined;
}

export type AdminInvocation =
  | { readonly type: "help" }
  | { readonly type: "run"; readonly flags: AdminFlags };

const WHERE = {
  server: ["URL", "a running server (default: http://127.0.0.1:8000, or LEMBAS_SERVER)"],
  "api-key": ["KEY", "an administrator's key for it (better: LEMBAS_API_KEY)"],
  data: ["DIR", "works on the embedded store in this directory; no server may have it open"],
  database: ["URL", "works on the store in this PostgreSQL, beside running servers"],
  output: ["text|json", "how results are printed (default: text)"],
} as const;
type WhereName = keyof typeof WHERE;
const WHERE_NAMES = Object.keys(WHERE) as WhereName[];

/** @throws {FlagError} saying what is wrong and what would be right */
export function parseAdmin(
  args: readonly string[],
  env: (name: string) => string | undefined,
): AdminInvocation {
  const own = [...new Set(COMMANDS.flatMap(({ flags }) => Object.keys(flags)))];
  const parsed = parseArgs([...args], {
    string: [...WHERE_NAMES, ...own, "_"],
    boolean: ["help"],
    alias: { help: "h" },
    unknown: (arg, key) => key === undefined || refuse(arg, key, [...WHERE_NAMES, ...own, "help"]),
  });
  if (parsed.help || args.length === 0) return { type: "help" };
  const words = parsed._.map(String);
  const command = commandOf(words);
  const value = (name: string): string | undefined => {
    const given = parsed[name];
    if (given === "") throw new FlagError(`Cannot use --${name}: it needs a value.`);
    return typeof given === "string" ? given : undefined;
  };
  for (const name of own) {
    if (value(name) !== undefined && !(name in command.flags)) {
      throw new FlagError(`Cannot use --${name} with '${command.name}': see --help.`);
    }
  }
  const rest = words.slice(command.name.split(" ").length);
  checkWords(command, rest);
  const format = formatOf(value("output"));
  return {
    type: "run",
    flags: { command, words: rest, where: whereOf(value, env), format, value },
  };
}

function commandOf(words: readonly string[]): AdminCommand {
  const asked = words.slice(0, 2).join(" ");
  const found = COMMANDS.find(({ name }) => name === asked || name === words[0]);
  if (found !== undefined) return found;
  const near = nearest(asked, COMMANDS.map(({ name }) => name));
  throw new FlagError(
    `Unknown command '${asked}'${
      near === undefined ? "" : `; did you mean '${near}'?`
    } See --help.`,
  );
}

function checkWords({ name, words }: AdminCommand, given: readonly string[]): void {
  const needed = words.filter((word) => !word.startsWith("["));
  if (given.length >= needed.length && given.length <= words.length) return;
  throw new FlagError(
    `Cannot run '${name}' with ${given.length} words after it: it takes ${
      words.length === 0 ? "none" : words.join(" ")
    }.`,
  );
}

type Value = (name: WhereName) => string | undefined;

function whereOf(value: Value, env: (name: string) => string | undefined): Where {
  const [data, database] = [value("data"), value("database")];
  if ([value("server"), data, database].filter((one) => one !== undefined).length > 1) {
    throw new FlagError("Cannot use more than one of --server, --data and --database.");
  }
  if (data !== undefined) return { type: "embedded", data };
  if (database !== undefined) return { type: "postgres", url: database };
  const text = value("server") ?? (env("LEMBAS_SERVER") || "http://127.0.0.1:8000");
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new FlagError(
      `Cannot use --server '${shownAddress(text)}': it must be an http or https URL.`,
    );
  }
  const base = url.href.replace(/\/(v1\/?)?$/, "");
  return {
    type: "server",
    url: base,
    apiKey: value("api-key") ?? (env("LEMBAS_API_KEY") || undefined),
  };
}

function formatOf(text: string | undefined): "text" | "json" {
  if (text === undefined || text === "text" || text === "json") return text ?? "text";
  throw new FlagError(`Cannot use --output: current value is '${text}', it must be text or json.`);
}

function refuse(arg: string, key: string, known: readonly string[]): never {
  const near = nearest(key, known);
  throw new FlagError(
    `Unknown flag '${arg.split("=")[0]}'${
      near === undefined ? "" : `; did you mean '--${near}'?`
    } See --help.`,
  );
}

/** The text of `--help`. */
export function adminHelp(): string {
  const commands = COMMANDS.map(({ name, words, help, flags }) => {
    const options = Object.entries(flags).map(([flag, [value, text]]) =>
      `\n      --${flag} ${value}  ${text}`
    );
    return `  ${[name, ...words].join(" ")}\n      ${help}${options.join("")}`;
  });
  const where = WHERE_NAMES.map((name) => `  --${name} ${WHERE[name].join("\n      ")}`);
  return `Administers a server: tenants, keys, cores, usage, backups.

Usage: deno task admin COMMAND [flags]

${commands.join("\n")}

Where it works:
${where.join("\n")}`;
}
