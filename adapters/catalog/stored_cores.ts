/**
 * The store's cores and LoRAs as this process serves them. A name is looked up once and remembered until the
 * store tells of a change; the content is read when the first request needs it.
 */
import type { ServedCore } from "../../src/engine/request/request.ts";
import { type AdapterContent, isLora, readAdapter } from "../lora/adapter_file.ts";
import { readField } from "../../src/util/errors.ts";
import { ScopedAnswers } from "../../src/util/memo.ts";
import { unixSeconds } from "../../src/util/time.ts";
import { UnservableError } from "./factor_sets.ts";
import { type AdapterName, formatAdapterName } from "./name.ts";
import type { AdapterRegistry } from "./registry.ts";
import type { CoreVersion, Store } from "../store/store.ts";

export interface StoredCoresOptions {
  readonly store: Pick<Store, "kind" | "cores" | "changes">;
  readonly registry: AdapterRegistry;
  /** Names that are remembered. Default 65,536. */
  readonly maxNames?: number;
}

/**
 * The store tells of changes. Where such a message is lost, names are wrong for so many
 * milliseconds.
 */
const FRESH_MS = 1000;
/** Cores of a page. */
const PAGE = 1000;

export class StoredCores implements Disposable {
  readonly #options: StoredCoresOptions;
  readonly #names: ScopedAnswers<CoreVersion | undefined>;
  readonly #news: readonly Disposable[];

  constructor(options: StoredCoresOptions) {
    this.#options = options;
    const { store: { kind, changes }, maxNames = 65_536 } = options;
    // nobody else writes to an embedded database
    const freshMs = kind === "sqlite" ? Infinity : FRESH_MS;
    this.#names = new ScopedAnswers({ most: maxNames, freshMs });
    this.#news = [
      changes.on("core", ({ tenant, id }) => this.#forget(tenant, id)),
      changes.on("tenant", () => this.#names.clear()),
      changes.on("resync", () => this.#names.clear()),
    ];
  }

  /**
   * What a tenant's name stands for, its factor set loaded; undefined for an unknown name and for a
   * core of another base.
   * @throws {FieldRangeError} where a digest prefix fits more than one version; {UnservableError} where
   *   the version is damaged, or of a factor set that was not kept
   */
  async find(tenant: string, { name, version }: Omit<AdapterName, "tenant">): Promise<
    ServedCore | undefined
  > {
    const { store, registry } = this.#options;
    const found = await this.#names.get(
      `${tenant}/${name}`,
      JSON.stringify(version),
      () => store.cores.resolve(tenant, name, version),
    );
    if (found === undefined || found.base !== registry.stack.base) return undefined;
    const core = served(found);
    if (found.state === "quarantined") {
      throw new UnservableError(
        "damaged",
        `Cannot serve '${core.name}': its content was damaged and is set aside. ` +
          "Publish it again, or roll back to another version.",
      );
    }
    await registry.factors.ensureFor(core);
    return core;
  }

  /** Current versions of this base, by name; a tenant's, or every one's with undefined. */
  async list(tenant: string | undefined): Promise<readonly ServedCore[]> {
    const { store, registry } = this.#options;
    const found: CoreVersion[] = [];
    let after: string | undefined;
    for (let more = true; more;) {
      const { items, hasMore } = await store.cores.list(tenant, {
        after,
        limit: PAGE,
        order: "asc",
      });
      found.push(...items.filter(({ base, current }) => current && base === registry.stack.base));
      const last = items.at(-1);
      after = last && `${last.tenant}/${last.name}`;
      more = hasMore && last !== undefined;
    }
    return found.map(served);
  }

  /**
   * Keeps a core or LoRA file as the current version of a tenant's name, for all processes.
   * @throws {FieldError | FieldRangeError} where it is none of this base and of known factors;
   *   {QuotaError} where the tenant may store no more
   */
  async publish(
    { tenant, name }: { readonly tenant: string; readonly name: string },
    bytes: Uint8Array,
    source: string,
  ): Promise<ServedCore> {
    const { store, registry } = this.#options;
    const content = readField("core", () => readAdapter(bytes));
    const set = isLora(content) ? undefined : await registry.factors.get(content.factors);
    registry.check(content);
    if (set !== undefined) await registry.factors.keep(set);
    const version = await store.cores.put(tenant, name, bytes, { source, publish: "now" });
    this.#forget(tenant, name);
    return served(version);
  }

  /** Takes a version out of the store, or all with undefined. Returns how many. */
  async remove(tenant: string, name: string, version: number | undefined): Promise<number> {
    const removed = await this.#options.store.cores.remove(tenant, name, version);
    this.#forget(tenant, name);
    return removed;
  }

  /** The content of a core or a LoRA. @throws {RangeError | TypeError} where it is gone, or damaged */
  async load({ digest }: ServedCore): Promise<AdapterContent> {
    return readAdapter(await this.#options.store.cores.bytes(digest));
  }

  [Symbol.dispose](): void {
    for (const one of this.#news) one[Symbol.dispose]();
  }

  #forget(tenant: string | undefined, name: string | undefined): void {
    if (tenant === undefined || name === undefined) this.#names.clear();
    else this.#names.forget(`${tenant}/${name}`);
  }
}

function served(
  { tenant, name, version, digest, factors, ranks, source, createdAt }: CoreVersion,
): ServedCore {
  return {
    name: formatAdapterName(tenant, name, version),
    digest,
    factors,
    ranks,
    tenant,
    model: `${tenant}/${name}`,
    source,
    created: unixSeconds(createdAt),
  };
}
