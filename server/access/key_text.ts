/**
 * The text of a key: `lmb_`, 43 random characters (256 bits), and 6 that check for typing errors, so
 * that what cannot be a key is refused without asking the store. It hashes and stores nothing.
 */
import { crc32 } from "node:zlib";

const PREFIX = "lmb_";
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LENGTH = 43;
const CHECK_LENGTH = 6;
const HINT_LENGTH = PREFIX.length + 6;
/** Bytes from here on would make the first characters of the alphabet likelier. */
const FAIR = 256 - 256 % ALPHABET.length;

const KEY = new RegExp(`^${PREFIX}[0-9A-Za-z]{${SECRET_LENGTH + CHECK_LENGTH}}$`);

/**
 * A new key, from the system's source of randomness.
 *
 * ```ts
 * import { isKeyText, newKeyText } from "./key_text.ts";
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

/** The first characters, by which people tell keys apart; 36 bits of the secret. */
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
