/** The command line of `deno task admin`: where it works, and which command with which words. */
import { shownAddress } from "../../../src/checkpoint/fetch/secrets.ts";
import {
  camel,
  type Environment,
  FlagError,
  flagsHelp,
  type FlagValues,
  nearest,
  oneOf,
  readCommandLine,
  textFlag,
  type ToldFlag,
  type ToldTable,
} from "../flags.ts";
import { CORE_COMMANDS } from "./cores.ts";
import { FACTOR_COMMANDS } from "./factors.ts";
import { KEY_COMMANDS } from "./keys.ts";
import type { AdminCommand } from "./output.ts";
import { STORE_COMMANDS } from "./store_commands.ts";
import { TENANT_COMMANDS } from "./tenants.ts";
import { USAGE_COMMANDS } from "./usage.ts";

/** In the order of the help. */
const COMMANDS: readonly AdminCommand[] = [
  ...TENANT_COMMANDS,
  ...KEY_COMMANDS,
  ...CORE_COMMANDS,
  ...FACTOR_COMMANDS,
  ...USAGE_COMMANDS,
  ...STORE_COMMANDS,
];

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
  | { readonly type: "help"; readonly of?: AdminCommand }
  | { readonly type: "run"; readonly flags: AdminFlags };

const WHERE = {
  server: textFlag("URL", "a running server (default: http://127.0.0.1:8000, or LEMBAS_SERVER)"),
  "api-key": textFlag("KEY", "an administrator's key for it (better: LEMBAS_API_KEY)"),
  data: textFlag(
    "DIR",
    "works on the embedded store in this directory; no server may have it open",
  ),
  database: textFlag("URL", "works on the store in this PostgreSQL, beside running servers"),
  output: {
    value: "text|json",
    type: { ...oneOf(["text", "json"]), right: "text or json" },
    help: "how results are printed (default: text)",
  },
} as const satisfies ToldTable;
const OWN: Readonly<Record<string, ToldFlag<string>>> = Object.assign(
  {},
  ...COMMANDS.map(({ flags }) => flags),
);
const FLAGS = { ...OWN, ...WHERE };

/** @throws {FlagError} saying what is wrong and what would be right */
export function parseAdmin(args: readonly string[], env: Environment): AdminInvocation {
  const line = {
    command: "admin",
    flags: FLAGS,
    words: "taken",
    asks: ["help"],
    variable: (flag: string) => flag === "api-key" ? "LEMBAS_API_KEY" : undefined,
  } as const;
  const asked = readCommandLine(line, args, env);
  if (asked.type !== "run") {
    const of = commandIn(args.filter((arg) => !arg.startsWith("-")));
    return of === undefined ? { type: "help" } : { type: "help", of };
  }
  if (args.length === 0) return { type: "help" };
  const { words, values } = asked;
  const command = commandOf(words);
  const given: Readonly<Record<string, unknown>> = values;
  const value = (name: string) => given[camel(name)] as string | undefined;
  const idle = Object.keys(OWN).find((name) =>
    value(name) !== undefined && !(name in command.flags)
  );
  if (idle !== undefined) {
    throw new FlagError(`Cannot use --${idle} with '${command.name}': see --help.`);
  }
  const rest = words.slice(command.name.split(" ").length);
  checkWords(command, rest);
  const format = values.output ?? "text";
  return {
    type: "run",
    flags: { command, words: rest, where: whereOf(values, env), format, value },
  };
}

function commandIn(words: readonly string[]): AdminCommand | undefined {
  const asked = words.slice(0, 2).join(" ");
  return COMMANDS.find(({ name }) => name === asked || name === words[0]);
}

function commandOf(words: readonly string[]): AdminCommand {
  const asked = words.slice(0, 2).join(" ");
  const found = commandIn(words);
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

function whereOf(
  { server, apiKey, data, database }: FlagValues<typeof WHERE>,
  env: Environment,
): Where {
  if ([server, data, database].filter((one) => one !== undefined).length > 1) {
    throw new FlagError("Cannot use more than one of --server, --data and --database.");
  }
  if (data !== undefined) return { type: "embedded", data };
  if (database !== undefined) return { type: "postgres", url: database };
  const text = server ?? (env("LEMBAS_SERVER") || "http://127.0.0.1:8000");
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new FlagError(
      `Cannot use --server '${shownAddress(text)}': it must be an http or https URL.`,
    );
  }
  return { type: "server", url: url.href.replace(/\/(v1\/?)?$/, ""), apiKey };
}

/** The text of `--help`, of one command or of all. */
export function adminHelp(command?: AdminCommand): string {
  if (command !== undefined) {
    const { name, words, help, flags } = command;
    const own = Object.keys(flags).length === 0 ? "" : `Flags:\n${flagsHelp(flags)}\n\n`;
    return `${help}

Usage: deno task admin ${[name, ...words].join(" ")} [flags]

${own}Where it works:
${flagsHelp(WHERE)}`;
  }
  const commands = COMMANDS.map(({ name, words, help, flags }) => {
    const options = Object.entries(flags).map(([flag, { value, help }]) =>
      `\n      --${flag} ${value}  ${help}`
    );
    return `  ${[name, ...words].join(" ")}\n      ${help}${options.join("")}`;
  });
  return `Administers a server: tenants, keys, cores, usage, backups.

Usage: deno task admin COMMAND [flags]

${commands.join("\n")}

Where it works:
${flagsHelp(WHERE)}`;
}
