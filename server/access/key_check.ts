/**
 * Whether a key is good, asked on every request: a bounded cache before the store. An answer is used
 * for at most half a second after the store was asked for it, and news of a changed key empties the
 * cache, so a revocation holds everywhere within a second even where the news is lost. It knows no
 * HTTP.
 */
import type { Changes, KeyRecord, KeyStore } from "../../adapters/store/store.ts";
import type { KeyHash } from "./key_hash.ts";
import { isKeyText } from "./key_text.ts";

/** Milliseconds for which an answer of the store is used. */
const FRESH = 500;
const MOST_CACHED = 10_000;

export type Verdict =
  | { readonly type: "valid"; readonly key: KeyRecord }
  | { readonly type: "unknown" }
  | { readonly type: "revoked" }
  | { readonly type: "expired" };

export interface KeyCheckOptions {
  readonly keys: Pick<KeyStore, "findByHash">;
  readonly changes: Pick<Changes, "on">;
  readonly hash: KeyHash;
  /** Unix milliseconds. Default: the system's clock. */
  readonly now?: () => number;
}

interface Answer {
  readonly record: Promise<KeyRecord | undefined>;
  readonly askedAt: number;
}

export class KeyCheck implements Disposable {
  readonly #options: KeyCheckOptions;
  readonly #now: () => number;
  /** By the hash in hex: what is looked up is no secret, and nobody can steer it. */
  readonly #answers = new Map<string, Answer>();
  readonly #subscriptions: readonly Disposable[];

  constructor(options: KeyCheckOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#subscriptions = (["key", "tenant", "resync"] as const).map((kind) =>
      options.changes.on(kind, () => this.#answers.clear())
    );
  }

  /** What a key is worth now. @throws what the store throws while it is away */
  async check(keyText: string): Promise<Verdict> {
    if (!isKeyText(keyText)) return { type: "unknown" };
    const key = await this.#find(this.#options.hash(keyText));
    if (key === undefined) return { type: "unknown" };
    if (key.revokedAt !== null) return { type: "revoked" };
    if (key.expiresAt !== null && key.expiresAt <= this.#now()) return { type: "expired" };
    return { type: "valid", key };
  }

  #find(hash: Uint8Array<ArrayBuffer>): Promise<KeyRecord | undefined> {
    const name = hash.toHex();
    const now = this.#now();
    const known = this.#answers.get(name);
    if (known !== undefined && Math.abs(now - known.askedAt) < FRESH) return known.record;
    const record = this.#options.keys.findByHash(hash);
    this.#keep(name, { record, askedAt: now });
    record.catch(() => this.#answers.delete(name));
    return record;
  }

  #keep(name: string, answer: Answer): void {
    this.#answers.delete(name);
    this.#answers.set(name, answer);
    const [oldest] = this.#answers.keys();
    if (this.#answers.size > MOST_CACHED && oldest !== undefined) this.#answers.delete(oldest);
  }

  [Symbol.dispose](): void {
    for (const subscription of this.#subscriptions) subscription[Symbol.dispose]();
  }
}
