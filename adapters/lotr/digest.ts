/**
 * Content digests of factor sets and cores: SHA-256 over canonical metadata and fp32 tensors, so
 * that two machines agree whatever file, dtype or order of fields the content came in.
 */
import { createHash } from "node:crypto";

export type DigestFields = Readonly<Record<string, string | number | readonly string[]>>;

/**
 * SHA-256 (hex) of the fields as JSON with sorted keys and no spaces, a line feed, and the tensors'
 * little-endian float32 bytes in the order given.
 */
export function contentDigest(fields: DigestFields, tensors: readonly Float32Array[]): string {
  const sorted = Object.entries(fields).sort(([a], [b]) => a < b ? -1 : 1);
  const hash = createHash("sha256").update(JSON.stringify(Object.fromEntries(sorted)) + "\n");
  for (const t of tensors) hash.update(new Uint8Array(t.buffer, t.byteOffset, t.byteLength));
  return hash.digest("hex");
}

/** @throws {TypeError} where the text is not a SHA-256 in lower-case hex. */
export function checkDigest(what: string, text: string): void {
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw new TypeError(
      `Cannot use ${what}: a digest has 64 hex digits, current value is ${
        JSON.stringify(text.slice(0, 80))
      }`,
    );
  }
}

/** A digest as people read it: its first twelve digits. */
export function shortDigest(digest: string): string {
  return digest.slice(0, 12);
}
