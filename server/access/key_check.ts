/**
 * Whether a key is good, asked at each request, with a bounded cache before the store. An answer
 * is used for at most half a second, and the news of a changed key empties the cache: a revocation
 * holds everywhere within a second, also where the news is lost.
 */
import type { Changes, KeyRecord, KeyStore } from "../../adapters/store/store.ts";
import { Answers } from "../../src/util/memo.ts";
import { isKeyText, type KeyHash } from "./keys.ts";

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

export class KeyCheck implements Disposable {
  readonly #options: KeyCheckOptions;
  readonly #now: () => number;
  /**
   * By the hash in hex, so that keys are not in memory, and nobody can choose what is compared
   * with what.
   */
  readonly #answers: Answers<KeyRecord | undefined>;
  readonly #subscriptions: readonly Disposable[];

  constructor(options: KeyCheckOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#answers = new Answers({ most: MOST_CACHED, freshMs: FRESH, now: this.#now });
    this.#subscriptions = (["key", "tenant", "resync"] as const).map((kind) =>
      options.changes.on(kind, () => this.#answers.clear())
    );
  }

  /** What a key is worth now. @throws what the store throws while it is away */
  async check(keyText: string): Promise<Verdict> {
    if (!isKeyText(keyText)) return { type: "unknown" };
    const { keys, hash } = this.#options;
    const hashed = hash(keyText);
    const key = await this.#answers.get(hashed.toHex(), () => keys.findByHash(hashed));
    if (key === undefined) return { type: "unknown" };
    if (key.revokedAt !== null) return { type: "revoked" };
    if (key.expiresAt !== null && key.expiresAt <= this.#now()) return { type: "expired" };
    return { type: "valid", key };
  }

  [Symbol.dispose](): void {
    for (const subscription of this.#subscriptions) subscription[Symbol.dispose]();
  }
}
