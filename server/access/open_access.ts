/**
 * Opens the door as a server starts: without keys and with a warning (`--open`), or with keys,
 * where a store without any gets a first one.
 */
import type { Store } from "../../adapters/store/store.ts";
import { type Access, keyAccess, openAccess } from "./access.ts";
import type { ServeFlags } from "../cli/serve_flags.ts";
import { issueFirstKey, type KeyHash, keyHash, openSecret } from "./keys.ts";
import { KeyCheck } from "./key_check.ts";
import { Sealer } from "./sealing.ts";
import type { Log } from "../telemetry/log.ts";
import type { AdminServices } from "../http/routes/admin_context.ts";

export interface AccessOptions {
  readonly store: Store;
  readonly flags: Pick<ServeFlags, "open" | "apiKey" | "host">;
  readonly env: (name: string) => string | undefined;
  readonly log: Log;
  /** Prints to whoever starts the server, not to its log. */
  readonly print: (text: string) => void;
}

/** What the routes' context needs; dispose when the server has stopped. */
export interface StoreAccess extends Disposable {
  readonly access: Access;
  readonly admin: AdminServices;
  readonly sealer: Sealer;
}

/** @throws {TypeError} for a secret in the environment that cannot be one */
export async function openStoreAccess(options: AccessOptions): Promise<StoreAccess> {
  const { store, flags, env, log } = options;
  const secret = await openSecret(store.keys, env);
  const [hash, sealer] = [keyHash(secret), new Sealer(secret)];
  const services = (access: Access) => ({
    ...{ access, sealer },
    admin: { store, hash, admit: access.admit },
  });
  if (flags.open) {
    log.warning(
      `OPEN MODE: no key is needed; whoever reaches ${flags.host} is the administrator. ` +
        "--open=false asks for keys.",
    );
    return { ...services(openAccess(store.tenants)), [Symbol.dispose]: () => {} };
  }
  if (flags.apiKey === undefined) await giveFirstKey(options, hash);
  const keys = new KeyCheck({ keys: store.keys, changes: store.changes, hash });
  const access = keyAccess({ apiKey: flags.apiKey, keys, tenants: store.tenants });
  return { ...services(access), [Symbol.dispose]: () => keys[Symbol.dispose]() };
}

async function giveFirstKey({ store, log, print }: AccessOptions, hash: KeyHash): Promise<void> {
  const issued = await issueFirstKey(store, hash);
  if (issued === undefined) return;
  log.info("made the first administrator's key; it is printed once, to the standard output", {
    key: issued.record.id,
  });
  print(
    `\nThe administrator's key of this store, shown this once:\n\n  ${issued.text}\n\n` +
      "Keep it, and make keys for others with it: LEMBAS_API_KEY=… deno task admin keys create …\n",
  );
}
