/** Ids as OpenAI's look, a prefix and random letters and digits; and names that follow from a text. */
import { createHash } from "node:crypto";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LENGTH = 24;

/** `newId("ftjob")` → `ftjob-` and 24 letters and digits: 142 random bits. */
export function newId(prefix: string, separator: "-" | "_" = "-"): string {
  const bytes = crypto.getRandomValues(new Uint8Array(2 * LENGTH));
  const words = new Uint16Array(bytes.buffer);
  return `${prefix}${separator}${
    Array.from(words, (word) => ALPHABET[word % ALPHABET.length]).join("")
  }`;
}

/** SHA-256 of a text, in hexadecimal digits. */
export function textDigest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
