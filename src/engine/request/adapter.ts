/** A core as a request names it, and the door through which the engine gets its numbers. */
import type { ResidentCore } from "../../executor/model.ts";

/** A core under a name: what a request's `model` stands for, one thing from HTTP to slot. */
export interface ServedCore {
  /** `tenant/name@version`, or an `ft:` name: one content for as long as it is served. */
  readonly name: string;
  /** SHA-256 of the core, hex. */
  readonly digest: string;
  /** SHA-256 of its factor set, hex: the lane it runs in. */
  readonly factors: string;
  /** Whose it is. */
  readonly tenant: string;
  /** The name without its version: what a request says that wants the current one. */
  readonly model: string;
  /** Where it came from, for people: a path, a job, "upload". */
  readonly source: string;
  /** Unix time in seconds. */
  readonly created: number;
}

/** A core pinned in memory until released. */
export interface CoreLease {
  readonly core: ResidentCore;
  release(): void;
}

/** Where the engine gets cores from: `CoreCache` in `adapters/catalog/`. */
export interface AdapterSource {
  /** Resolves at once for a resident core; a cold one is fetched without holding other rows up. */
  acquire(core: ServedCore, signal?: AbortSignal): CoreLease | Promise<CoreLease>;
  /** @throws {Error} `internal: …` where its own books, of leases above all, do not balance. */
  checkIntegrity?(): void;
}
