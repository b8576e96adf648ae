/** The commands of `deno task admin`, in the order of its help. It owns the list; each does its own. */
import type { AdminApi } from "./api.ts";
import type { Output } from "./output.ts";
import { CORE_COMMANDS } from "./cores.ts";
import { KEY_COMMANDS } from "./keys.ts";
import { STORE_COMMANDS } from "./store_commands.ts";
import { TENANT_COMMANDS } from "./tenants.ts";
import { USAGE_COMMANDS } from "./usage.ts";

/** What a command is run with. */
export interface Call {
  readonly api: AdminApi;
  /** What stood behind the command's name. */
  readonly words: readonly string[];
  /** A flag's value. */
  readonly value: (name: string) => string | undefined;
}

export interface AdminCommand {
  /** `keys create`. */
  readonly name: string;
  /** What stands behind it; in brackets what may be left out. */
  readonly words: readonly string[];
  readonly help: string;
  /** Its own flags: value and meaning. */
  readonly flags: Readonly<Record<string, readonly [value: string, help: string]>>;
  /** @throws {FlagError} for a word that cannot be; {TypeError} with the server's words */
  readonly run: (call: Call) => Promise<Output>;
}

export const COMMANDS: readonly AdminCommand[] = [
  ...TENANT_COMMANDS,
  ...KEY_COMMANDS,
  ...CORE_COMMANDS,
  ...USAGE_COMMANDS,
  ...STORE_COMMANDS,
];
