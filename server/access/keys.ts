/**
 * API keys: their text, the hash that the store keeps, and making new ones. The text is `lmb_`, 43
 * random characters (256 bits), and 6 check characters, so that a typing error is refused without
 * asking the store.
 *
 * The hash is HMAC-SHA-256 with a secret of the server. Keys are random, so a slow password hash
 * would add nothing; the secret makes a stolen table useless for testing guesses. It is
 * `LEMBAS_KEY_SECRET` where that is set, else it lies in the store. All processes on a store need
 * the same secret; with another one every key is unknown.
 */
import { createHmac } from "node:crypto";
import { crc32 } from "node:zlib";
import { DEFAULT_TENANT } from "../../adapters/catalog/name.ts";
import { type KeyRecord, type KeyStore, SCOPES, type Store } from "../../adapters/store/store.ts";

const PREFIX = "lmb_";
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LENGTH = 43;
const CHECK_LENGTH = 6;
const HINT_LENGTH = PREFIX.length + 6;
/**
 * Bytes from here on are thrown away: they would make the first characters of the alphabet
 * likelier.
 */
const FAIR = 256 - 256 % ALPHABET.length;

const KEY = new RegExp(`^${PREFIX}[0-9A-Za-z]{${SECRET_LENGTH + CHECK_LENGTH}}$`);

/**
 * A new key, from the system's source of randomness.
 *
 * ```ts
 * import { isKeyText, newKeyText } from "./keys.ts";
 * import { assert } from "@std/assert";
 * assert(isKeyText(newKeyText()));
 * ```
 */
export function newKeyText(): string {
  let secret = "";
  while (secret.length < SECRET_LENGTH) {
    for (const byte of crypto.getRandomValues(new Uint8Array(SECRET_LENGTH))) {
      if (byte < FAIR && secret.length < SECRET_LENGTH) secret += digit(byte);
    }
  }
  return `${PREFIX}${secret}${check(secret)}`;
}

/** Whether a text has a key's form and its check characters are right. */
export function isKeyText(text: string): boolean {
  if (!KEY.test(text)) return false;
  const secret = text.slice(PREFIX.length, PREFIX.length + SECRET_LENGTH);
  return text.endsWith(check(secret));
}

/** The first characters, by which people tell keys apart. They give away 36 bits of the secret. */
export function hintOf(text: string): string {
  return text.slice(0, HINT_LENGTH);
}

/** CRC-32 in the alphabet's base, the lowest digit first. */
function check(secret: string): string {
  let rest = crc32(secret);
  let text = "";
  for (let i = 0; i < CHECK_LENGTH; i++) {
    text += digit(rest);
    rest = Math.floor(rest / ALPHABET.length);
  }
  return text;
}

function digit(value: number): string {
  return ALPHABET.charAt(value % ALPHABET.length);
}

/** Characters that a secret from the environment must have. */
const LEAST_SECRET = 32;

export type KeyHash = (keyText: string) => Uint8Array<ArrayBuffer>;

export function keyHash(secret: string | Uint8Array): KeyHash {
  return (keyText) => new Uint8Array(createHmac("sha256", secret).update(keyText).digest());
}

/**
 * The secret of this environment, or the store's.
 * @throws {TypeError} for a secret that is too short to be one
 */
export async function openSecret(
  keys: Pick<KeyStore, "secret">,
  env: (name: string) => string | undefined,
): Promise<string | Uint8Array> {
  const given = env("LEMBAS_KEY_SECRET");
  if (!given) return await keys.secret();
  if (given.length >= LEAST_SECRET) return given;
  throw new TypeError(
    `Cannot use LEMBAS_KEY_SECRET: it has ${given.length} characters, it must have at least ` +
      `${LEAST_SECRET} random ones, e.g. from 'openssl rand -base64 32'.`,
  );
}

/** A new key with its text, which is stored nowhere. */
export interface IssuedKey {
  readonly record: KeyRecord;
  readonly text: string;
}

/** What one asks for. */
export type KeyOrder = Pick<KeyRecord, "tenant" | "name" | "scopes" | "expiresAt">;

/** The name of the key that a store gets at its first start. */
export const FIRST_KEY = "first administrator";

/** @throws {RangeError} where the tenant is not there */
export async function issueKey(
  { keys }: Pick<Store, "keys">,
  hash: KeyHash,
  order: KeyOrder,
): Promise<IssuedKey> {
  const text = newKeyText();
  const record = await keys.create({ ...order, hint: hintOf(text) }, hash(text));
  return { record, text };
}

/**
 * Makes an administrator's key where the store has no usable key. Of several processes that start
 * at once, one gets it.
 */
export async function issueFirstKey(
  { keys }: Pick<Store, "keys">,
  hash: KeyHash,
): Promise<IssuedKey | undefined> {
  if (await keys.countUsable() > 0) return undefined;
  const tenant = DEFAULT_TENANT;
  const order = { tenant, name: FIRST_KEY, scopes: SCOPES, expiresAt: null };
  const issued = await issueKey({ keys }, hash, order);
  const page = { after: undefined, limit: 1000, order: "asc" } as const;
  const { items } = await keys.list(tenant, page);
  const first = items.find(({ name, revokedAt }) => name === FIRST_KEY && revokedAt === null);
  if (first === undefined || first.id === issued.record.id) return issued;
  await keys.revoke(tenant, issued.record.id);
  return undefined;
}
