/**
 * A session: a token with the id of a key and an end, signed with the secret that keys are hashed
 * with, so that every process on the store accepts it and none keeps it. The key is looked up at
 * each request: a session ends with its key.
 */
import { timingSafeEqual } from "node:crypto";
import type { KeyStore } from "../../adapters/store/store.ts";
import type { KeyHash } from "../access/keys.ts";
import { administrator, type Principal } from "../access/access.ts";

/** Seconds after which a session ends. */
export const SESSION_SECONDS = 12 * 60 * 60;

export interface SessionOptions {
  readonly hash: KeyHash;
  readonly keys: Pick<KeyStore, "find">;
  /** `--api-key`, the key outside of the store: its sessions end when it changes. */
  readonly apiKey: string | undefined;
  /** Unix milliseconds. Default: the system's clock. */
  readonly now?: () => number;
}

interface Claims {
  readonly tenant: string;
  readonly keyId: string | null;
  /** Unix seconds. */
  readonly until: number;
}

export class Sessions {
  readonly #options: SessionOptions;
  readonly #now: () => number;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** A token for a principal that has shown its key. */
  open({ tenant, keyId }: Principal): string {
    const until = Math.floor(this.#now() / 1000) + SESSION_SECONDS;
    const claims: Claims = { tenant, keyId, until };
    const body = new TextEncoder().encode(JSON.stringify(claims)).toBase64({
      alphabet: "base64url",
      omitPadding: true,
    });
    return `${body}.${this.#sign(body)}`;
  }

  /**
   * The principal of a token; undefined where it is forged or over, or its key is no longer good.
   */
  async principal(token: string): Promise<Principal | undefined> {
    const [body = "", signature = ""] = token.split(".");
    if (!isSame(this.#sign(body), signature)) return undefined;
    const { tenant, keyId, until }: Claims = JSON.parse(decode(body));
    if (until * 1000 <= this.#now()) return undefined;
    if (keyId === null) return this.#options.apiKey === undefined ? undefined : administrator();
    const key = await this.#options.keys.find(tenant, keyId);
    if (key === undefined || key.revokedAt !== null) return undefined;
    if (key.expiresAt !== null && key.expiresAt <= this.#now()) return undefined;
    return { tenant, scopes: new Set(key.scopes), keyId };
  }

  /** The token of this session's forms, which no other site can know; "" = open mode. */
  formToken(token: string): string {
    return this.#mac("form", token);
  }

  /** Whether a form carries its session's token. */
  isForm(token: string, given: string): boolean {
    return isSame(this.formToken(token), given);
  }

  #sign(body: string): string {
    return this.#mac("session", `${body} ${this.#options.apiKey ?? ""}`);
  }

  /** Starts unlike a key's text, so that no signature is the hash of a key. */
  #mac(purpose: "session" | "form", text: string): string {
    return this.#options.hash(`console ${purpose} ${text}`).toHex();
  }
}

function decode(body: string): string {
  return new TextDecoder().decode(Uint8Array.fromBase64(body, { alphabet: "base64url" }));
}

function isSame(a: string, b: string): boolean {
  const [first, second] = [a, b].map((text) => new TextEncoder().encode(text));
  if (first === undefined || second === undefined) return false;
  return first.length === second.length && timingSafeEqual(first, second);
}
