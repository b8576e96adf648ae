/** The commands of `deno task admin`, in the order of its help. */
import { CORE_COMMANDS } from "./cores.ts";
import { KEY_COMMANDS } from "./keys.ts";
import type { AdminCommand } from "./output.ts";
import { STORE_COMMANDS } from "./store_commands.ts";
import { TENANT_COMMANDS } from "./tenants.ts";
import { USAGE_COMMANDS } from "./usage.ts";

export const COMMANDS: readonly AdminCommand[] = [
  ...TENANT_COMMANDS,
  ...KEY_COMMANDS,
  ...CORE_COMMANDS,
  ...USAGE_COMMANDS,
  ...STORE_COMMANDS,
];
