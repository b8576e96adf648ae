/**
 * What a name stands for, wherever the core is: a tuned model (`ft:`), a core of the store, or one
 * of the adapters' directory. A name in the store wins over the same name in the directory.
 */
import type { ServedCore } from "../../src/engine/request/request.ts";
import { FieldError } from "../../src/util/errors.ts";
import type { AdapterContent } from "../lora/adapter_file.ts";
import { type LoraContent, writeLora } from "../lora/lora_file.ts";
import { type PeftFiles, peftLinears } from "../lora/peft_files.ts";
import type { AdapterDirectory, LoadedCore, Projection } from "./directory.ts";
import { type AdapterPlace, HUB_PREFIX, onHub } from "./hub.ts";
import { type AdapterName, DEFAULT_TENANT, parseAdapterName, TUNED_PREFIX } from "./name.ts";
import type { AdapterRegistry, CoreKeeper, RequestCore } from "./registry.ts";
import type { StoredCores } from "./stored_cores.ts";
import type { TunedModels } from "./tuned_models.ts";

export interface CatalogParts {
  readonly registry: AdapterRegistry;
  /** Undefined = no path is read; cores inside requests still work. */
  readonly directory: AdapterDirectory | undefined;
  /** Undefined = what is loaded is known to this process only, and until it ends. */
  readonly stored?: StoredCores | undefined;
  readonly tuned?: TunedModels | undefined;
  /** Makes the tenant that a core is kept for, in open mode (`Access.admit`). */
  readonly admit?: ((tenant: string) => Promise<unknown>) | undefined;
}

export interface LoadPathOptions {
  /** Brings a PEFT LoRA onto the factors; undefined = it is served as it is. */
  readonly projection?: Projection | undefined;
}

export class Catalog implements CoreKeeper {
  readonly #parts: CatalogParts;

  constructor(parts: CatalogParts) {
    this.#parts = parts;
    parts.registry.elsewhere(this);
  }

  /** A tenant's cores; undefined = every tenant's. */
  async list(tenant: string | undefined): Promise<readonly ServedCore[]> {
    const { stored, tuned } = this.#parts;
    const local = this.loaded(tenant);
    const kept = await stored?.list(tenant) ?? [];
    const names = new Set(kept.map(({ model }) => model));
    return [
      ...local.filter(({ model }) => !names.has(model)),
      ...kept,
      ...await tuned?.list(tenant) ?? [],
    ];
  }

  /** The same of those that this process has from files, all versions, whatever the store has. */
  loaded(tenant: string | undefined): readonly ServedCore[] {
    return this.#parts.registry.list()
      .filter((core) => tenant === undefined || core.tenant === tenant);
  }

  /**
   * `tenant/name`, `tenant/name@version`, an `ft:` name, or a bare name while it is unambiguous; of
   * every tenant.
   * @throws {FieldRangeError} naming the candidates of an ambiguous name; {UnservableError} where its
   *   content is damaged or its factor set gone
   */
  async find(name: string): Promise<ServedCore | undefined> {
    if (name.startsWith(TUNED_PREFIX)) return await this.#parts.tuned?.find(name);
    const parsed = parsedName(name);
    if (parsed === undefined) return undefined;
    return await this.#findStored(parsed) ?? this.#parts.registry.resolve(name);
  }

  /** The content of an adapter of the store's. @throws {RangeError | TypeError} where it is gone, or damaged */
  async load(served: ServedCore): Promise<AdapterContent> {
    const { stored, tuned } = this.#parts;
    const keeper = served.name.startsWith(TUNED_PREFIX) ? tuned : stored;
    if (keeper !== undefined) return await keeper.load(served);
    throw new RangeError(`Cannot load adapter '${served.name}': it was unloaded`);
  }

  /**
   * Reads an adapter below the adapters' directory, or of the hub, and publishes it; a name that is taken gets a new
   * version. With a store it is durable, and every process serves it.
   * @throws {FieldError | FieldRangeError} saying what is wrong with the path or does not fit;
   *   {QuotaError} where the tenant may store no more
   */
  async loadPath(name: string, path: string, { projection }: LoadPathOptions): Promise<LoadedCore> {
    const { stored, admit } = this.#parts;
    const { directory, ...place } = await this.#placeOf(path);
    if (stored === undefined) return await directory.load({ name, ...place, projection });
    const { tenant = DEFAULT_TENANT, name: bare, version } = parseAdapterName(name);
    if (version.type !== "latest") {
      throw new FieldError(
        "name",
        `Cannot publish '${name}': leave the version out, the next one is counted by the server`,
      );
    }
    const { bytes, residual, source } = await directory.read({ ...place, projection });
    await admit?.(tenant);
    return { core: await stored.publish({ tenant, name: bare }, bytes, source), residual };
  }

  /**
   * Removes a name, or one version of it. Requests that already run keep their core. What was read at
   * the start is gone from this process until it starts again.
   */
  async unload(name: string): Promise<void> {
    const { registry, stored } = this.#parts;
    if (stored === undefined) return void registry.remove(name);
    const parsed = parseAdapterName(name);
    const kept = await this.#findStored(parsed);
    if (kept !== undefined) {
      const version = parsed.version.type === "latest" ? undefined : versionOf(kept);
      await stored.remove(kept.tenant, parsed.name, version);
    } else registry.remove(name);
  }

  /**
   * A PEFT LoRA as a file for this base.
   * @throws {TypeError | RangeError} naming what of it cannot be served
   */
  loraFile(files: PeftFiles): Uint8Array<ArrayBuffer> {
    const { stack, loraLimits } = this.#parts.registry;
    return writeLora(peftLinears(files), stack, loraLimits);
  }

  /** @throws {FieldError | FieldRangeError} for a LoRA that this base cannot serve */
  checkLora(lora: LoraContent): void {
    this.#parts.registry.check(lora);
  }

  /** A core file in base64, for one request. @throws as `AdapterRegistry.fromRequest` does */
  inline(tenant: string, base64: string): RequestCore {
    return this.#parts.registry.fromRequest(tenant, base64);
  }

  async #placeOf(path: string): Promise<Omit<AdapterPlace, "source"> & { source?: string }> {
    const { directory, registry } = this.#parts;
    if (path.startsWith(HUB_PREFIX)) return await onHub(path, registry);
    if (directory !== undefined) return { directory, path };
    throw new FieldError("path", "Cannot read a path: the server was started without --adapters");
  }

  async #findStored({ tenant, ...name }: AdapterName): Promise<ServedCore | undefined> {
    return tenant === undefined ? undefined : await this.#parts.stored?.find(tenant, name);
  }
}

/** Undefined for a text that cannot be a name. */
function parsedName(name: string): AdapterName | undefined {
  try {
    return parseAdapterName(name);
  } catch (error) {
    if (error instanceof FieldError) return undefined;
    throw error;
  }
}

function versionOf({ name }: ServedCore): number {
  const { version } = parseAdapterName(name);
  if (version.type === "number") return version.number;
  throw new Error(`internal: a stored core's name '${name}' has no number`);
}
