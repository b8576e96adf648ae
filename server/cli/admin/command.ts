/** `deno task admin` from its flags to its exit code, over a server or over a store. */
import { openStore, type StoreLocation } from "../../../adapters/store/open_store.ts";
import { FlagError } from "../flags.ts";
import { keyHash, openSecret } from "../../access/keys.ts";
import { withoutSecret } from "../../../src/checkpoint/fetch/secrets.ts";
import { ApiClient, serverFetch } from "../client.ts";
import { type AdminFlags, adminHelp, parseAdmin, type Where } from "./flags.ts";
import type { Output } from "./output.ts";

/** What a process gives the command. */
export interface AdminEnvironment {
  readonly args: readonly string[];
  readonly env: (name: string) => string | undefined;
  /** A line of the result. */
  readonly print: (text: string) => void;
  /** A line about a failure. */
  readonly complain: (text: string) => void;
}

/** Runs the command; resolves with the exit code: 2 for a wrong command line, 1 for a refusal. */
export async function runAdmin(environment: AdminEnvironment): Promise<number> {
  const { args, env, print, complain } = environment;
  try {
    const invocation = parseAdmin(args, env);
    if (invocation.type === "help") {
      print(adminHelp(invocation.of));
      return 0;
    }
    const { flags } = invocation;
    const output = await perform(flags, environment);
    print(flags.format === "json" ? JSON.stringify(output.json, null, 2) : output.text);
    return 0;
  } catch (error) {
    complain(error instanceof Error ? error.message : String(error));
    return error instanceof FlagError ? 2 : 1;
  }
}

async function perform(flags: AdminFlags, { env, complain }: AdminEnvironment): Promise<Output> {
  const { command, words, value, where } = flags;
  if (where.type === "server") {
    const unreachable = (reason: string, cause: unknown) =>
      new TypeError(
        `Cannot reach ${withoutSecret(where.url)}: ${reason}. Say where it is with --server, or ` +
          "work on its store with --data DIR (while no server has it) or --database URL.",
        { cause },
      );
    const api = new ApiClient(serverFetch(where, unreachable));
    return await command.run({ api, words, value });
  }
  // imported late: commands to a server need nothing of the store
  const { storeFetch } = await import("./store_fetch.ts");
  const log = { info: () => {}, warning: complain };
  await using store = await openStore(locationOf(where), log);
  const hash = keyHash(await openSecret(store.keys, env));
  return await command.run({ api: new ApiClient(storeFetch({ store, hash })), words, value });
}

function locationOf(where: Exclude<Where, { readonly type: "server" }>): StoreLocation {
  return where.type === "embedded"
    ? { type: "directory", path: where.data }
    : { type: "url", url: where.url };
}
