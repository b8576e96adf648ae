/**
 * What names stand for: adapters by tenant, name and version, and the factor sets they may use. It
 * owns the way back to each core's content; it holds no resident core (that is `cache.ts`) and walks
 * no directory (`directory.ts`).
 */
import type { AdapterRef } from "../../src/engine/request/adapter.ts";
import { OverloadedError } from "../../src/util/errors.ts";
import type { ResidentCore } from "../../src/executor/model.ts";
import type { CoreLoader } from "./cache.ts";
import { type Core, toResident } from "../lotr/core.ts";
import { shortDigest } from "../lotr/digest.ts";
import type { FactorSet, FactorShape } from "../lotr/factors.ts";
import { MAX_CORE_BYTES, readCore } from "../lotr/format.ts";
import { HeldFactors } from "./held_factors.ts";
import { formatAdapterName } from "./name.ts";
import { type AdapterEntry, NamedVersions } from "./named_versions.ts";
import type { Stack } from "../lotr/stack.ts";

export type { AdapterEntry } from "./named_versions.ts";

/** A core to register, and how to get it again when it has left memory. */
export interface CoreSource {
  readonly core: Core;
  readonly source: string;
  readonly residual?: number;
  /** Default: the core itself is kept. */
  readonly reload?: () => Promise<Core>;
}

/** A core that came inside a request: known by its digest until released, never listed. */
export interface RequestAdapter extends Disposable {
  readonly ref: AdapterRef;
  /** Idempotent; call it when the request has ended. */
  release(): void;
}

export interface RegistryOptions {
  readonly stack: Stack;
  /** Bound on the float32 cores of requests in flight, bytes. Default 256 MiB. */
  readonly requestBytes?: number;
  /** Bound on factor sets that can be had again, bytes. Default 64 MiB. */
  readonly factorBytes?: number;
  /** Unix time in milliseconds. Default: the system's clock. */
  readonly now?: () => number;
}

interface RequestCore {
  readonly core: Core;
  holders: number;
}

export class AdapterRegistry implements CoreLoader {
  readonly stack: Stack;
  readonly #requestBytes: number;
  readonly #now: () => number;
  readonly #factors: HeldFactors;
  readonly #names = new NamedVersions();
  /** How to get a registered core, by digest. */
  readonly #sources = new Map<string, () => Promise<Core>>();
  readonly #requests = new Map<string, RequestCore>();
  #elsewhere: ((ref: AdapterRef) => Promise<Core>) | undefined;

  constructor(options: RegistryOptions) {
    const { stack, requestBytes = 256 * 2 ** 20, factorBytes = 64 * 2 ** 20 } = options;
    const { now = Date.now } = options;
    this.stack = stack;
    this.#factors = new HeldFactors(factorBytes);
    this.#requestBytes = requestBytes;
    this.#now = now;
  }

  /**
   * Makes a set known. With a way to have it again it may leave memory, else it stays.
   * @throws {TypeError} naming both digests or widths where the set is not of this base.
   */
  addFactors(factors: FactorSet, reload?: () => Promise<FactorSet>): void {
    factors.checkStack(this.stack);
    this.#factors.add(factors, reload);
  }

  hasFactors(digest: string): boolean {
    return this.#factors.has(digest);
  }

  /** Factor sets that are in memory. */
  factorSets(): readonly FactorSet[] {
    return this.#factors.inMemory();
  }

  /** A set without its numbers. @throws {RangeError} naming the sets there are. */
  shapeOf(digest: string): FactorShape {
    return this.#factors.shapeOf(digest);
  }

  /** @throws {RangeError} naming the sets there are. */
  factorsOf(digest: string): Promise<FactorSet> {
    return this.#factors.get(digest);
  }

  /**
   * Registers a core under a name, which means that core from now on.
   * @throws {TypeError | RangeError} for a bad name, a taken version, or a core of another base or
   *   of factors that are not loaded
   */
  add(name: string, from: CoreSource): AdapterEntry {
    const { core, source, residual, reload = () => Promise.resolve(core) } = from;
    this.check(core);
    return this.#names.add(name, core.digest, ({ tenant, name, version }) => {
      this.#sources.set(core.digest, reload);
      const ref = refOf(formatAdapterName(tenant, name, version), core);
      const created = Math.floor(this.#now() / 1000);
      return { ref, tenant, name, version, source, created, rank: core.rank, residual };
    });
  }

  /**
   * The version that a name stands for, or undefined where there is none.
   * @throws as `NamedVersions.resolve` does
   */
  resolve(name: string): AdapterEntry | undefined {
    return this.#names.resolve(name);
  }

  /** All versions of all adapters, by name. */
  list(): readonly AdapterEntry[] {
    return this.#names.list();
  }

  /**
   * Takes a name out: one version where the name says which, else all. Requests in flight keep
   * their leases. Returns what was taken out, empty where there was nothing.
   */
  remove(name: string): readonly AdapterEntry[] {
    const gone = this.#names.remove(name);
    const still = new Set(this.list().map((other) => other.ref.digest));
    for (const { ref } of gone) if (!still.has(ref.digest)) this.#sources.delete(ref.digest);
    return gone;
  }

  /** Registers a core file's bytes. @throws as `readCore` and `add` do. */
  addBytes(name: string, bytes: Uint8Array): AdapterEntry {
    return this.add(name, { core: readCore(bytes), source: "bytes" });
  }

  /**
   * A core that travels inside a request: a core file in base64 (standard or URL alphabet). Equal
   * cores share one place; the caller releases it when the request has ended.
   *
   * @throws {TypeError | RangeError} for what is not such a file, or is of another base or of
   *   factors that are not loaded; {OverloadedError} where requests in flight hold too much
   */
  fromRequest(base64: string): RequestAdapter {
    const core = readCore(fromBase64(base64));
    this.check(core);
    const held = this.#requests.get(core.digest) ?? this.#holdRequest(core);
    held.holders++;
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      if (--held.holders === 0) this.#requests.delete(core.digest);
    };
    const ref = refOf(`request/${shortDigest(core.digest)}`, core);
    return { ref, release, [Symbol.dispose]: release };
  }

  /** Where cores come from that have no name here; `load` rejects where they are gone. */
  elsewhere(load: (ref: AdapterRef) => Promise<Core>): void {
    this.#elsewhere = load;
  }

  /** The core itself, from where it came. @throws {RangeError} where it was unloaded meanwhile. */
  async core(ref: AdapterRef): Promise<Core> {
    const request = this.#requests.get(ref.digest);
    if (request !== undefined) return request.core;
    const elsewhere = this.#elsewhere;
    const source = this.#sources.get(ref.digest) ??
      (elsewhere && (() => elsewhere(ref)));
    if (source === undefined) {
      throw new RangeError(`Cannot load adapter '${ref.name}': it was unloaded`);
    }
    const core = await source();
    if (core.digest !== ref.digest) {
      throw new TypeError(
        `Cannot load adapter '${ref.name}': its file now has digest ${core.digest}, ` +
          `registered is ${ref.digest}; load it again`,
      );
    }
    return core;
  }

  async load(ref: AdapterRef): Promise<ResidentCore> {
    return toResident(await this.core(ref), this.shapeOf(ref.factors));
  }

  residentBytes(ref: AdapterRef): number {
    return this.shapeOf(ref.factors).residentBytes;
  }

  /** @throws {TypeError | RangeError} for a core of another base, or of factors not loaded */
  check(core: Core): void {
    if (core.base !== this.stack.base) {
      throw new TypeError(
        `Cannot use core ${core.digest}: its base is ${core.base}, served is ${this.stack.base}`,
      );
    }
    core.checkFactors(this.shapeOf(core.factors));
  }

  #holdRequest(core: Core): RequestCore {
    const held = [...this.#requests.values()];
    const bytes = held.reduce((sum, { core }) => sum + core.cores.byteLength, 0);
    if (bytes + core.cores.byteLength > this.#requestBytes) {
      throw new OverloadedError(
        `Cannot take a core in a request: those in flight hold ${bytes} bytes, ` +
          `the bound is ${this.#requestBytes}`,
        1,
      );
    }
    const entry = { core, holders: 0 };
    this.#requests.set(core.digest, entry);
    return entry;
  }
}

function refOf(name: string, core: Core): AdapterRef {
  return { name, digest: core.digest, factors: core.factors };
}

function fromBase64(text: string): Uint8Array {
  if (text.length > MAX_CORE_BYTES * 4 / 3 + 4) {
    throw new RangeError(
      `Cannot read cores: ${text.length} characters of base64, a core has at most ` +
        `${MAX_CORE_BYTES} bytes`,
    );
  }
  try {
    return Uint8Array.fromBase64(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch (cause) {
    throw new TypeError("Cannot read cores: they are not base64", { cause });
  }
}
