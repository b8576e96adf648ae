/**
 * Seals texts that a tenant carries itself and sends back later: AES-256-GCM (NIST SP 800-38D) under a
 * key of the tenant's own, made of the server's secret by HKDF (RFC 5869). What was changed, or is
 * another tenant's or another store's, does not open.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { Buffer } from "node:buffer";

const CIPHER = "aes-256-gcm";
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export class Sealer {
  readonly #secret: string | Uint8Array;

  /** @param secret of the server; with another one nothing opens that was sealed before */
  constructor(secret: string | Uint8Array) {
    this.#secret = secret;
  }

  /** Base64url of nonce, tag and what is sealed. */
  seal(tenant: string, text: string): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#keyOf(tenant), nonce);
    const sealed = [cipher.update(text, "utf8"), cipher.final()];
    return Buffer.concat([nonce, cipher.getAuthTag(), ...sealed]).toString("base64url");
  }

  /** Undefined for what was not sealed so, and for this tenant. */
  open(tenant: string, sealed: string): string | undefined {
    const bytes = Buffer.from(sealed, "base64url");
    const begin = NONCE_BYTES + TAG_BYTES;
    if (bytes.length < begin) return undefined;
    const nonce = bytes.subarray(0, NONCE_BYTES);
    const options = { authTagLength: TAG_BYTES };
    const decipher = createDecipheriv(CIPHER, this.#keyOf(tenant), nonce, options);
    decipher.setAuthTag(bytes.subarray(NONCE_BYTES, begin));
    try {
      const opened = [decipher.update(bytes.subarray(begin)), decipher.final()];
      return Buffer.concat(opened).toString("utf8");
    } catch {
      // the tag says that it was not sealed by this key
      return undefined;
    }
  }

  #keyOf(tenant: string): Uint8Array {
    const info = `lembas sealed text of ${tenant}`;
    return new Uint8Array(hkdfSync("sha256", this.#secret, "", info, KEY_BYTES));
  }
}
