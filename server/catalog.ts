/**
 * The registry of adapters and the tuned models as the routes see them. It owns the translation of
 * names and errors; what a path may name and how it is read is the directory's.
 */
import type { AdapterDirectory } from "../adapters/directory.ts";
import type { AdapterEntry as RegistryEntry, AdapterRegistry } from "../adapters/registry.ts";
import type {
  AdapterCatalog,
  AdapterEntry,
  AdapterLoadOptions,
  InlineAdapter,
  LoadedAdapter,
} from "./context.ts";
import { TUNED_PREFIX } from "./jobs/names.ts";

/** What `ft:` names stand for. */
export interface TunedNames {
  find(name: string): AdapterEntry | undefined;
  list(): readonly AdapterEntry[];
}

export class RegistryCatalog implements AdapterCatalog {
  readonly #registry: AdapterRegistry;
  readonly #directory: AdapterDirectory | undefined;
  readonly #tuned: TunedNames | undefined;

  /** Without a directory no path is read; cores inside requests still work. */
  constructor(
    registry: AdapterRegistry,
    directory: AdapterDirectory | undefined,
    tuned?: TunedNames,
  ) {
    this.#registry = registry;
    this.#directory = directory;
    this.#tuned = tuned;
  }

  list(): readonly AdapterEntry[] {
    return [...this.#registry.list().map(toEntry), ...(this.#tuned?.list() ?? [])];
  }

  find(name: string): AdapterEntry | undefined {
    if (name.startsWith(TUNED_PREFIX)) return this.#tuned?.find(name);
    try {
      const entry = this.#registry.resolve(name);
      return entry && toEntry(entry);
    } catch (error) {
      // what cannot be a name names nothing
      if (error instanceof TypeError) return undefined;
      throw error;
    }
  }

  async load(name: string, path: string, options: AdapterLoadOptions): Promise<LoadedAdapter> {
    if (this.#directory === undefined) {
      throw new TypeError("Cannot read a path: the server was started without --adapters");
    }
    const { allowLossy } = options;
    const { entry } = await this.#directory.load({ name, path, allowLossy });
    return { entry: toEntry(entry), residual: entry.residual };
  }

  unload(name: string): AdapterEntry | undefined {
    const [first] = this.#registry.remove(name);
    return first && toEntry(first);
  }

  inline(base64: string): InlineAdapter {
    return this.#registry.fromRequest(base64);
  }
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
