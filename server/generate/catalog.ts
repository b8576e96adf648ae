/**
 * Adapters as the routes see them: the store's cores, those of the adapters' directory, and tuned
 * models. It owns which of them a name means and the translation of errors; what a path may name and
 * how it is read is the directory's, what a version is the store's.
 */
import type { AdapterDirectory } from "../../adapters/catalog/directory.ts";
import { type AdapterName, DEFAULT_TENANT, parseAdapterName } from "../../adapters/catalog/name.ts";
import type {
  AdapterEntry as RegistryEntry,
  AdapterRegistry,
} from "../../adapters/catalog/registry.ts";
import {
  type StoredCore,
  type StoredCores,
  UnservableError,
} from "../../adapters/catalog/stored_cores.ts";
import type {
  AdapterCatalog,
  AdapterEntry,
  AdapterLoadOptions,
  InlineAdapter,
  LoadedAdapter,
} from "../context.ts";
import { ApiError } from "../http/errors.ts";
import { TUNED_PREFIX } from "../jobs/names.ts";

/** What `ft:` names stand for. */
export interface TunedNames {
  find(name: string): Promise<AdapterEntry | undefined>;
  list(tenant: string | undefined): Promise<readonly AdapterEntry[]>;
}

export interface CatalogParts {
  readonly registry: AdapterRegistry;
  /** Undefined = no path is read; cores inside requests still work. */
  readonly directory: AdapterDirectory | undefined;
  /** Undefined = what is loaded is this process's alone, until it ends. */
  readonly stored?: StoredCores | undefined;
  readonly tuned?: TunedNames | undefined;
  /** Sees to it, where it may, that a tenant is there to keep a core for (`Access.admit`). */
  readonly admit?: ((tenant: string) => Promise<unknown>) | undefined;
}

export class RegistryCatalog implements AdapterCatalog {
  readonly #parts: CatalogParts;

  constructor(parts: CatalogParts) {
    this.#parts = parts;
  }

  async list(tenant: string | undefined): Promise<readonly AdapterEntry[]> {
    const { registry, stored, tuned } = this.#parts;
    const local = registry.list().filter((entry) =>
      tenant === undefined || entry.tenant === tenant
    );
    const kept = await stored?.list(tenant) ?? [];
    const names = new Set(kept.map(({ version }) => `${version.tenant}/${version.name}`));
    return [
      ...local.map(toEntry).filter(({ name }) => !names.has(name)),
      ...kept.map(fromStore),
      ...await tuned?.list(tenant) ?? [],
    ];
  }

  async find(name: string): Promise<AdapterEntry | undefined> {
    const { registry, tuned } = this.#parts;
    try {
      if (name.startsWith(TUNED_PREFIX)) return await tuned?.find(name);
      const parsed = parsedName(name);
      if (parsed === undefined) return undefined;
      const kept = await this.#findStored(parsed);
      if (kept !== undefined) return fromStore(kept);
      const entry = registry.resolve(name);
      return entry && toEntry(entry);
    } catch (error) {
      if (!(error instanceof UnservableError)) throw error;
      if (error.reason === "damaged") {
        throw new ApiError(500, error.message, { code: "adapter_damaged" });
      }
      throw new ApiError(400, error.message, { param: "model", code: "factors_not_found" });
    }
  }

  async load(name: string, path: string, options: AdapterLoadOptions): Promise<LoadedAdapter> {
    const { directory, stored } = this.#parts;
    if (directory === undefined) {
      throw new TypeError("Cannot read a path: the server was started without --adapters");
    }
    const { allowLossy } = options;
    if (stored === undefined) {
      const { entry } = await directory.load({ name, path, allowLossy });
      return { entry: toEntry(entry), residual: entry.residual };
    }
    const { tenant = DEFAULT_TENANT, name: bare, version } = parseAdapterName(name);
    if (version.type !== "latest") {
      throw new TypeError(
        `Cannot publish '${name}': leave the version out, the next one is counted by the server`,
      );
    }
    const { bytes, report, source } = await directory.read({ path, allowLossy });
    await this.#parts.admit?.(tenant);
    const kept = await stored.publish({ tenant, name: bare }, bytes, source);
    return { entry: fromStore(kept), residual: report?.residual };
  }

  async unload(name: string): Promise<void> {
    const { registry, stored } = this.#parts;
    if (stored === undefined) return void registry.remove(name);
    const parsed = parseAdapterName(name);
    const kept = await this.#findStored(parsed);
    if (kept !== undefined) {
      const { tenant, name, version } = kept.version;
      const which = parsed.version.type === "latest" ? undefined : version;
      await stored.remove(tenant, name, which);
    } else if (registry.resolve(name) !== undefined) {
      throw new TypeError(
        `Cannot remove '${name}': it is read from the directory of adapters at every start; ` +
          "remove its file there",
      );
    }
  }

  inline(base64: string): InlineAdapter {
    return this.#parts.registry.fromRequest(base64);
  }

  async #findStored({ tenant, ...name }: AdapterName): Promise<StoredCore | undefined> {
    return tenant === undefined ? undefined : await this.#parts.stored?.find(tenant, name);
  }
}

/** What cannot be a name names nothing. */
function parsedName(name: string): AdapterName | undefined {
  try {
    return parseAdapterName(name);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

function fromStore({ ref, version }: StoredCore): AdapterEntry {
  return {
    ref,
    name: `${version.tenant}/${version.name}`,
    tenant: version.tenant,
    root: version.source,
    created: Math.floor(version.createdAt / 1000),
  };
}

function toEntry(entry: RegistryEntry): AdapterEntry {
  return {
    ref: entry.ref,
    name: `${entry.tenant}/${entry.name}`,
    tenant: entry.tenant,
    root: entry.source,
    created: entry.created,
  };
}
