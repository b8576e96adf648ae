/**
 * The cores and LoRAs resident in memory: bounded in bytes, least recently used out first, never one that is
 * leased. (So it is no `Lru`: bytes are counted, and leases keep cores in.)
 *
 * A core is loading, then resident; resident ones are pinned while any lease is out. Memory is set
 * aside before a load begins, so the bound holds at every moment; where everything is pinned or
 * loading, an acquire waits its turn, and nobody else waits for it.
 */
import type { AdapterSource, CoreLease, ServedCore } from "../../src/engine/request/request.ts";
import type { ResidentAdapter } from "../../src/executor/model.ts";
import type { AdapterRegistry } from "./registry.ts";

/** Fetches a cold core, scale folded in and padded, and says before how many bytes that takes. */
export type CoreLoader = Pick<AdapterRegistry, "load" | "residentBytes">;

export interface CoreCacheOptions {
  readonly loader: CoreLoader;
  /** Bound on resident cores, bytes (`--core-memory`). */
  readonly maxBytes: number;
}

/** A snapshot; counters run since the cache was made. */
export interface CoreCacheMetrics {
  readonly maxBytes: number;
  /** Bytes of resident cores and of those being loaded. */
  readonly residentBytes: number;
  readonly residentCores: number;
  readonly pinnedCores: number;
  /** Acquires that wait for memory. */
  readonly waiting: number;
  readonly hits: number;
  readonly misses: number;
  readonly evictions: number;
  readonly failures: number;
}

/** A core that is being loaded, or in memory. Its leases include the acquires that wait for it. */
interface Entry {
  readonly served: ServedCore;
  readonly bytes: number;
  leases: number;
  state: EntryState;
  /** Settles when the core is resident or its load has failed. */
  readonly loaded: Promise<ResidentAdapter>;
}

type EntryState =
  | { readonly name: "waiting"; readonly grant: () => void }
  | { readonly name: "loading" }
  | { readonly name: "resident"; readonly core: ResidentAdapter };

export class CoreCache implements AdapterSource {
  readonly #loader: CoreLoader;
  readonly #maxBytes: number;
  readonly #entries = new Map<string, Entry>();
  /** Resident and not leased; the least recently used comes first. */
  readonly #idle = new Map<string, Entry>();
  /** Waiting for memory, first come first served. */
  #queue: Entry[] = [];
  /** Bytes of all entries but the waiting ones. */
  #bytes = 0;
  #idleBytes = 0;
  #hits = 0;
  #misses = 0;
  #evictions = 0;
  #failures = 0;

  /** @throws {RangeError} unless maxBytes is positive. */
  constructor({ loader, maxBytes }: CoreCacheOptions) {
    if (!(maxBytes > 0)) {
      throw new RangeError(
        `Cannot bound core memory: a positive number of bytes is wanted, ` +
          `current value is ${maxBytes}`,
      );
    }
    this.#loader = loader;
    this.#maxBytes = maxBytes;
  }

  /**
   * Pins a core until the lease is released. Acquires of one core share one load; an abort gives up
   * this acquire only. A failure is not remembered: the next acquire tries anew.
   *
   * @returns a lease at once where the core is resident
   * @throws {RangeError} where the core is larger than the whole cache; the loader's own error; the
   *   signal's reason
   */
  acquire(served: ServedCore, signal?: AbortSignal): CoreLease | Promise<CoreLease> {
    signal?.throwIfAborted();
    const known = this.#entries.get(served.digest);
    if (known?.state.name === "resident") {
      this.#hits++;
      this.#pin(known);
      return this.#lease(known, known.state.core);
    }
    this.#misses++;
    const entry = known ?? this.#begin(served);
    this.#pin(entry);
    return this.#leaseWhenLoaded(entry, signal);
  }

  /** Drops a core that nobody will ask for again, unless it is leased. */
  forget(digest: string): void {
    const entry = this.#idle.get(digest);
    if (entry !== undefined) this.#drop(entry);
  }

  metrics(): CoreCacheMetrics {
    const entries = [...this.#entries.values()];
    const resident = entries.filter((entry) => entry.state.name === "resident");
    return {
      maxBytes: this.#maxBytes,
      residentBytes: this.#bytes,
      residentCores: resident.length,
      pinnedCores: resident.length - this.#idle.size,
      waiting: this.#queue.length,
      hits: this.#hits,
      misses: this.#misses,
      evictions: this.#evictions,
      failures: this.#failures,
    };
  }

  /** @throws {Error} where the books do not balance: for tests and idle moments. */
  checkIntegrity(): void {
    const entries = [...this.#entries.values()];
    const booked = entries.filter((entry) => entry.state.name !== "waiting");
    const waiting = entries.length - booked.length;
    const idle = entries.filter((e) => e.state.name === "resident" && e.leases === 0);
    const head = this.#queue[0];
    const faults = {
      "the bytes booked are not the entries'": sumBytes(booked) !== this.#bytes,
      "the idle bytes are not the idle entries'": sumBytes(idle) !== this.#idleBytes,
      "the idle entries are not those without lease": idle.length !== this.#idle.size ||
        idle.some((entry) => this.#idle.get(entry.served.digest) !== entry),
      "the bound is broken": this.#bytes > this.#maxBytes,
      "the queue is not the waiting entries": waiting !== this.#queue.length,
      "a lease was released twice": entries.some((entry) => entry.leases < 0),
      "an acquire waits though there is room": head !== undefined && this.#fits(head.bytes),
    };
    const fault = Object.entries(faults).find(([, broken]) => broken);
    if (fault !== undefined) {
      throw new Error(`internal: core cache: ${fault[0]}; ${JSON.stringify(this.metrics())}`);
    }
  }

  #begin(served: ServedCore): Entry {
    const bytes = this.#loader.residentBytes(served);
    if (bytes > this.#maxBytes) {
      throw new RangeError(
        `Cannot hold adapter '${served.name}': it takes ${bytes} bytes, core memory is ${this.#maxBytes}`,
      );
    }
    const { promise: granted, resolve: grant } = Promise.withResolvers<void>();
    const loaded = granted.then(() => this.#load(entry));
    loaded.catch(() => {}); // every acquire has its own handler; there may be none left
    const entry: Entry = { served, bytes, leases: 0, state: { name: "waiting", grant }, loaded };
    this.#entries.set(served.digest, entry);
    this.#queue.push(entry);
    this.#serveQueue();
    return entry;
  }

  async #load(entry: Entry): Promise<ResidentAdapter> {
    try {
      const core = await this.#loader.load(entry.served);
      if (core.data.byteLength !== entry.bytes || core.digest !== entry.served.digest) {
        throw new TypeError(
          `Cannot hold adapter '${entry.served.name}': wanted are ${entry.bytes} bytes of ` +
            `${entry.served.digest}, loaded are ${core.data.byteLength} of ${core.digest}`,
        );
      }
      entry.state = { name: "resident", core };
      if (entry.leases === 0) this.#setIdle(entry);
      return core;
    } catch (error) {
      this.#failures++;
      this.#entries.delete(entry.served.digest);
      this.#bytes -= entry.bytes;
      throw error;
    } finally {
      this.#serveQueue();
    }
  }

  async #leaseWhenLoaded(entry: Entry, signal: AbortSignal | undefined): Promise<CoreLease> {
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal?.reason);
    signal?.addEventListener("abort", abort);
    try {
      const core = await Promise.race([entry.loaded, aborted.promise]);
      signal?.throwIfAborted();
      return this.#lease(entry, core);
    } catch (error) {
      this.#unpin(entry);
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  #lease(entry: Entry, core: ResidentAdapter): CoreLease {
    let held = true;
    return {
      core,
      release: () => {
        if (held) this.#unpin(entry);
        held = false;
      },
    };
  }

  #pin(entry: Entry): void {
    entry.leases++;
    if (this.#idle.delete(entry.served.digest)) this.#idleBytes -= entry.bytes;
  }

  #unpin(entry: Entry): void {
    entry.leases--;
    if (entry.leases > 0) return;
    if (entry.state.name === "resident") this.#setIdle(entry);
    if (entry.state.name === "waiting") this.#giveUp(entry);
    this.#serveQueue();
  }

  #setIdle(entry: Entry): void {
    this.#idle.set(entry.served.digest, entry);
    this.#idleBytes += entry.bytes;
  }

  #giveUp(entry: Entry): void {
    this.#queue = this.#queue.filter((other) => other !== entry);
    this.#entries.delete(entry.served.digest);
  }

  #fits(bytes: number): boolean {
    return this.#bytes - this.#idleBytes + bytes <= this.#maxBytes;
  }

  /** Starts the loads that wait, in order, while there is memory. */
  #serveQueue(): void {
    for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
      if (!this.#fits(head.bytes) || head.state.name !== "waiting") return;
      for (const oldest of this.#idle.values()) {
        if (this.#bytes + head.bytes <= this.#maxBytes) break;
        this.#drop(oldest);
      }
      this.#queue.shift();
      this.#bytes += head.bytes;
      head.state.grant();
      head.state = { name: "loading" };
    }
  }

  #drop(entry: Entry): void {
    this.#idle.delete(entry.served.digest);
    this.#entries.delete(entry.served.digest);
    this.#idleBytes -= entry.bytes;
    this.#bytes -= entry.bytes;
    this.#evictions++;
  }
}

function sumBytes(entries: readonly Entry[]): number {
  return entries.reduce((sum, entry) => sum + entry.bytes, 0);
}
