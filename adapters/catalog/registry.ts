/**
 * What this process knows without a store: cores and LoRAs under names, cores that came inside requests, and
 * factor sets, with a way to read each of them again. For any other core it asks `elsewhere`.
 */
import type { ServedCore } from "../../src/engine/request/request.ts";
import { FieldError, OverloadedError, readField } from "../../src/util/errors.ts";
import { unixSeconds } from "../../src/util/time.ts";
import type { Base } from "../../src/executor/base.ts";
import type { ResidentAdapter } from "../../src/executor/model.ts";
import { type AdapterContent, isLora, kindOf } from "../lora/adapter_file.ts";
import { checkLora, type LoraContent, type LoraLimits } from "../lora/lora_file.ts";
import { type Core, toResident } from "../lotr/core.ts";
import { shortDigest, type Stack } from "../lotr/stack.ts";
import { MAX_CORE_BYTES, readCore } from "../lotr/format.ts";
import { FactorSets } from "./factor_sets.ts";
import { NamedVersions } from "./named_versions.ts";

/** A core or a LoRA to register, and how to get it again when it has left memory. */
export interface CoreSource {
  readonly core: AdapterContent;
  /** For people: a path, "memory". */
  readonly source: string;
  /** Default: the content itself is kept. */
  readonly reload?: () => Promise<AdapterContent>;
}

/** A core that came inside a request, served until disposed; idempotent. Never listed. */
export interface RequestCore extends Disposable {
  readonly core: ServedCore;
}

/** Has the cores that are not registered here. */
export interface CoreKeeper {
  /** @throws {RangeError | TypeError} where it is gone, or damaged */
  load(core: ServedCore): Promise<AdapterContent>;
}

/** What LoRAs are laid out for, and which are taken. */
export interface LoraServing extends LoraLimits {
  readonly base: Pick<Base, "residentLora" | "residentLoraBytes">;
}

export interface RegistryOptions {
  readonly stack: Stack;
  /** Undefined = LoRAs are not served as they are. */
  readonly loras?: LoraServing;
  /** Bound on the float32 cores of requests in flight, bytes. Default 256 MiB. */
  readonly requestBytes?: number;
  /** Bound on factor sets that can be had again, bytes. Default 64 MiB. */
  readonly factorBytes?: number;
  /** Unix time in milliseconds. Default: the system's clock. */
  readonly now?: () => number;
}

interface HeldCore {
  readonly core: Core;
  holders: number;
}

export class AdapterRegistry {
  readonly stack: Stack;
  /** Those that cores may name. */
  readonly factors: FactorSets;
  readonly #loras: LoraServing | undefined;
  readonly #requestBytes: number;
  readonly #now: () => number;
  readonly #names = new NamedVersions();
  /** How to get a registered core, by digest. */
  readonly #sources = new Map<string, () => Promise<AdapterContent>>();
  /** Cores inside requests, by digest. */
  readonly #requests = new Map<string, HeldCore>();
  #elsewhere: CoreKeeper | undefined;

  constructor(options: RegistryOptions) {
    const { stack, requestBytes = 256 * 2 ** 20, now = Date.now } = options;
    this.stack = stack;
    this.#loras = options.loras;
    this.factors = new FactorSets(stack, options.factorBytes);
    this.#requestBytes = requestBytes;
    this.#now = now;
  }

  /**
   * Registers a core or a LoRA under a name, which means that content from now on.
   * @throws {FieldError | FieldRangeError} for a bad name, a taken version, or an adapter of another
   *   base or of factors that are not loaded
   */
  add(name: string, { core, source, reload }: CoreSource): ServedCore {
    this.check(core);
    const { digest } = core;
    const created = unixSeconds(this.#now());
    const served = this.#names.add(name, { digest, ...kindOf(core), source, created });
    this.#sources.set(digest, reload ?? (() => Promise.resolve(core)));
    return served;
  }

  /**
   * The version that a name stands for, or undefined where there is none.
   * @throws as `NamedVersions.resolve` does
   */
  resolve(name: string): ServedCore | undefined {
    return this.#names.resolve(name);
  }

  /** All versions of all adapters, by name. */
  list(): readonly ServedCore[] {
    return this.#names.list();
  }

  /**
   * Removes one version where the name says which, else all. Requests in flight keep their
   * leases. Returns what was removed.
   */
  remove(name: string): readonly ServedCore[] {
    const gone = this.#names.remove(name);
    const still = new Set(this.list().map(({ digest }) => digest));
    for (const { digest } of gone) if (!still.has(digest)) this.#sources.delete(digest);
    return gone;
  }

  /**
   * A core that travels inside a request: a core file in base64 (standard or URL alphabet). Equal
   * cores share one place; the caller disposes it when the request has ended.
   *
   * @throws {FieldError | FieldRangeError} for what is not such a file, or is of another base or of
   *   factors that are not loaded; {OverloadedError} where requests in flight hold too much
   */
  fromRequest(tenant: string, base64: string): RequestCore {
    const core = readField("core", () => readCore(fromBase64(base64)));
    this.check(core);
    const { digest, factors } = core;
    const held = this.#requests.get(digest) ?? this.#hold(core);
    held.holders++;
    let released = false;
    const name = `request/${shortDigest(digest)}`;
    const created = unixSeconds(this.#now());
    return {
      core: { name, digest, factors, tenant, model: name, source: "request", created },
      [Symbol.dispose]: () => {
        if (released) return;
        released = true;
        if (--held.holders === 0) this.#requests.delete(digest);
      },
    };
  }

  /** Says who is asked for a core that is not registered here. */
  elsewhere(keeper: CoreKeeper): void {
    this.#elsewhere = keeper;
  }

  async content(served: ServedCore): Promise<AdapterContent> {
    const core = await this.#find(served);
    if (core === undefined) {
      throw new RangeError(`Cannot load adapter '${served.name}': it was unloaded`);
    }
    if (core.digest !== served.digest) {
      throw new TypeError(
        `Cannot load adapter '${served.name}': its file now has digest ${core.digest}, ` +
          `registered is ${served.digest}; load it again`,
      );
    }
    return core;
  }

  /** An adapter as lanes want it. @throws {RangeError | TypeError} where it is gone, or damaged */
  async load(served: ServedCore): Promise<ResidentAdapter> {
    const content = await this.content(served);
    if (!isLora(content)) return toResident(content, this.factors.shapeOf(content.factors));
    return this.#serving().base.residentLora(content);
  }

  residentBytes({ factors, ranks = {} }: ServedCore): number {
    return factors === undefined
      ? this.#serving().base.residentLoraBytes(ranks)
      : this.factors.shapeOf(factors).residentBytes;
  }

  /** The highest rank of a LoRA that is taken. @throws {FieldError} where none is served */
  get loraLimits(): LoraLimits {
    return this.#serving();
  }

  /** @throws {FieldError | FieldRangeError} for an adapter of another base, or of factors not loaded */
  check(content: AdapterContent): void {
    if (isLora(content)) this.#checkLora(content);
    else this.#checkCore(content);
  }

  #checkLora(lora: LoraContent): void {
    const limits = this.#serving();
    readField("lora", () => checkLora(lora, this.stack, limits));
  }

  #serving(): LoraServing {
    if (this.#loras !== undefined) return this.#loras;
    throw new FieldError(
      "lora",
      "Cannot use LoRA: LoRAs are served as they are on the CPU alone; 'project' makes a core of it",
    );
  }

  #checkCore(core: Core): void {
    if (core.base !== this.stack.base) {
      throw new FieldError(
        "core",
        `Cannot use core ${core.digest}: its base is ${core.base}, served is ${this.stack.base}`,
      );
    }
    core.checkFactors(this.factors.shapeOf(core.factors));
  }

  #find(served: ServedCore): AdapterContent | Promise<AdapterContent> | undefined {
    const request = this.#requests.get(served.digest);
    return request?.core ?? this.#sources.get(served.digest)?.() ?? this.#elsewhere?.load(served);
  }

  #hold(core: Core): HeldCore {
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
