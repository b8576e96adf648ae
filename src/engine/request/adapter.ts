/**
 * The door through which the engine gets cores: it names an adapter and awaits a lease. It knows no
 * file, store or factor mathematics; `adapters/catalog/cache.ts` implements it.
 */
import type { ResidentCore } from "../../executor/model.ts";

/** Names the core a request wants: one that the source has registered, by digest. */
export interface AdapterRef {
  /** What people call it, `tenant/name@version`, for logs and metrics. */
  readonly name: string;
  /** SHA-256 of the core, hex. */
  readonly digest: string;
  /** SHA-256 of its factor set, hex: the lane it runs in. */
  readonly factors: string;
}

/** A core pinned in memory until released. */
export interface CoreLease {
  readonly core: ResidentCore;
  release(): void;
}

export interface AdapterSource {
  /** Resolves at once for a resident core; a cold one is fetched without holding other rows up. */
  acquire(ref: AdapterRef, signal?: AbortSignal): CoreLease | Promise<CoreLease>;
  /** @throws {Error} `internal: …` where its own books, of leases above all, do not balance. */
  checkIntegrity?(): void;
}
