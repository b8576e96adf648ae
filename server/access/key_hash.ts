/**
 * The hash under which a key is kept: HMAC-SHA-256 with a secret of the server. A key has 256 random
 * bits, so a slow password hash would add nothing; the secret keeps a stolen table from being used to
 * test guesses, and an attacker from steering what is compared with what. It knows no store.
 *
 * The secret is `LEMBAS_KEY_SECRET` where that is set (so that a stolen database lacks it), else it
 * lies in the store. All processes on a store need the same one, and another one makes every key
 * unknown.
 */
import { createHmac } from "node:crypto";
import type { KeyStore } from "../../adapters/store/store.ts";

/** Characters that a secret from the environment must have. */
const LEAST_SECRET = 32;

export type KeyHash = (keyText: string) => Uint8Array<ArrayBuffer>;

export function keyHash(secret: string | Uint8Array): KeyHash {
  return (keyText) => new Uint8Array(createHmac("sha256", secret).update(keyText).digest());
}

/**
 * The hash with the secret of this environment, or the store's.
 * @throws {TypeError} for a secret that is too short to be one
 */
export async function openKeyHash(
  keys: Pick<KeyStore, "secret">,
  env: (name: string) => string | undefined,
): Promise<KeyHash> {
  const given = env("LEMBAS_KEY_SECRET");
  if (!given) return keyHash(await keys.secret());
  if (given.length >= LEAST_SECRET) return keyHash(given);
  throw new TypeError(
    `Cannot use LEMBAS_KEY_SECRET: it has ${given.length} characters, it must have at least ` +
      `${LEAST_SECRET} random ones, e.g. from 'openssl rand -base64 32'.`,
  );
}
