/**
 * The directory of adapters on disk, the only place from which a server reads paths. A path must
 * stay under its root after links are followed.
 *
 * Layout: `<root>/<tenant>/<name>.safetensors`, a core or a LoRA file; `<root>/<name>.safetensors` for
 * the tenant "default"; PEFT directories `<root>/[<tenant>/]<name>/`, served as they are; factor files
 * anywhere beside them.
 */
import type { ServedCore } from "../../src/engine/request/request.ts";
import { FieldError, readField } from "../../src/util/errors.ts";
import { readAdapter } from "../lora/adapter_file.ts";
import { MAX_LORA_BYTES, writeLora } from "../lora/lora_file.ts";
import {
  CONFIG_FILE,
  type PeftFiles,
  peftLinears,
  readBounded,
  readPeftDirectory,
  refusePickle,
  WEIGHTS_FILE,
} from "../lora/peft_files.ts";
import type { Core } from "../lotr/core.ts";
import type { FactorSet } from "../lotr/factors.ts";
import { fileKind, readFactors, writeCore } from "../lotr/format.ts";
import { exportPeft, type PeftExportOptions } from "../lotr/peft/peft_export.ts";
import { importPeft } from "../lotr/peft/peft_import.ts";
import { DEFAULT_TENANT } from "./name.ts";
import type { AdapterRegistry } from "./registry.ts";

const EXTENSION = ".safetensors";

export interface LoadOptions {
  /** `tenant/name`, `name`, either with `@version`. */
  readonly name: string;
  /** A core or LoRA file, or a PEFT directory, under the root; relative paths start at the root. */
  readonly path: string;
  /** What lists say of where it came from; default: its path, links followed. */
  readonly source?: string | undefined;
  /** Brings a PEFT LoRA onto a factor set, as a core; undefined = it is served as it is. */
  readonly projection?: Projection | undefined;
  /** Digest of that factor set; default: the first one loaded. */
  readonly factors?: string;
}

/** "within": only a LoRA that loses at most 5% of its energy. "lossy": any. */
export type Projection = "within" | "lossy";

export interface LoadedCore {
  readonly core: ServedCore;
  /** Share of a projected LoRA's energy that the factors cannot hold; undefined for all others. */
  readonly residual: number | undefined;
}

/** An adapter that was read. */
export interface ReadResult {
  /** A core or a LoRA file. */
  readonly bytes: Uint8Array;
  /** As `LoadedCore.residual`. */
  readonly residual: number | undefined;
  /** The path, links followed. */
  readonly source: string;
}

/** A file that could not be used at the start; the others serve on. */
export interface ScanWarning {
  readonly path: string;
  readonly message: string;
}

export interface ScanResult {
  readonly adapters: readonly ServedCore[];
  readonly factors: readonly FactorSet[];
  readonly warnings: readonly ScanWarning[];
}

/** There is nothing by a path below the root. */
export class NoSuchPathError extends FieldError {
  override readonly name = "NoSuchPathError";
  constructor(path: string) {
    super(
      "path",
      `Cannot load ${JSON.stringify(path.slice(0, 500))}: there is nothing by this path ` +
        `in the directory of adapters`,
    );
  }
}

export class AdapterDirectory {
  readonly root: string;
  readonly #registry: AdapterRegistry;

  private constructor(root: string, registry: AdapterRegistry) {
    this.root = root;
    this.#registry = registry;
  }

  /** @throws {Deno.errors.NotFound | TypeError} where `root` is not a directory. */
  static async open(root: string, registry: AdapterRegistry): Promise<AdapterDirectory> {
    const { isDirectory } = await Deno.stat(root);
    if (!isDirectory) throw new TypeError(`Cannot read adapters: ${root} is not a directory`);
    return new AdapterDirectory(await Deno.realPath(root), registry);
  }

  /**
   * Loads one adapter and registers it.
   * @throws {FieldError | FieldRangeError} naming the path, and what is wrong with it or its content
   */
  async load(options: LoadOptions): Promise<LoadedCore> {
    const path = await this.#resolve(options.path);
    const { isDirectory } = await Deno.stat(path);
    return isDirectory ? await this.#loadPeft(path, options) : await this.#loadFile(path, options);
  }

  /**
   * Reads one adapter without registering it, as a core or a LoRA file.
   * @throws {FieldError | FieldRangeError} naming the path, and what is wrong with it or its content
   */
  async read(options: Omit<LoadOptions, "name">): Promise<ReadResult> {
    const path = await this.#resolve(options.path);
    const { source = path } = options;
    const { isDirectory } = await Deno.stat(path);
    if (!isDirectory) {
      return { bytes: await readBounded(path, MAX_LORA_BYTES), residual: undefined, source };
    }
    if (options.projection === undefined) {
      return { bytes: await this.#readLora(path), residual: undefined, source };
    }
    const { core, residual } = await this.#project(path, options);
    return { bytes: writeCore(core), residual, source };
  }

  /** Registers all factor sets, then all adapters; a broken one becomes a warning. */
  async scan(): Promise<ScanResult> {
    const warnings: ScanWarning[] = [];
    const factors: FactorSet[] = [];
    const adapters: ServedCore[] = [];
    const attempt: Attempt = async (path, step) => {
      try {
        await step();
      } catch (error) {
        warnings.push({ path, message: error instanceof Error ? error.message : String(error) });
      }
    };
    const found: Found[] = [];
    await attempt(this.root, () => this.#walk(found, attempt));
    const cores: Found[] = [];
    for (const item of found) {
      await attempt(item.path, async () => {
        const set = item.type === "file" ? await this.#factorsIn(item.path) : undefined;
        if (set === undefined) return void cores.push(item);
        this.#registry.factors.add(set);
        factors.push(set);
      });
    }
    for (const { path, name } of cores) {
      await attempt(path, async () => void adapters.push((await this.load({ name, path })).core));
    }
    return { adapters, factors, warnings };
  }

  /** The set in a factor file; undefined for another file. */
  async #factorsIn(path: string): Promise<FactorSet | undefined> {
    const bytes = await readBounded(await this.#resolve(path), MAX_LORA_BYTES);
    return fileKind(bytes) === "factors" ? readFactors(bytes) : undefined;
  }

  async #loadFile(path: string, { name, source = path }: LoadOptions): Promise<LoadedCore> {
    const reload = async () => {
      const bytes = await readBounded(path, MAX_LORA_BYTES);
      return readField("path", () => readAdapter(bytes));
    };
    const core = this.#registry.add(name, { core: await reload(), source, reload });
    return { core, residual: undefined };
  }

  async #loadPeft(
    path: string,
    { name, source = path, ...options }: LoadOptions,
  ): Promise<LoadedCore> {
    if (options.projection !== undefined) {
      const { core, residual } = await this.#project(path, options);
      return { core: this.#registry.add(name, { core, source }), residual };
    }
    const reload = async () => readAdapter(await this.#readLora(path));
    const core = this.#registry.add(name, { core: await reload(), source, reload });
    return { core, residual: undefined };
  }

  /** A PEFT directory as a LoRA file. */
  async #readLora(path: string): Promise<Uint8Array> {
    const files = await this.#readPeft(path);
    const { stack, loraLimits } = this.#registry;
    return readField("path", () => writeLora(peftLinears(files), stack, loraLimits));
  }

  async #project(
    path: string,
    { projection, factors }: Omit<LoadOptions, "name">,
  ): Promise<{ readonly core: Core; readonly residual: number }> {
    const files = await this.#readPeft(path);
    const set = await this.#factorsFor(factors);
    const allowLossy = projection === "lossy";
    const { core, report } = readField("path", () => importPeft(files, set, { allowLossy }));
    return { core, residual: report.residual };
  }

  async #readPeft(path: string): Promise<PeftFiles> {
    await refusePickle(path);
    for (const file of [CONFIG_FILE, WEIGHTS_FILE]) await this.#resolve(`${path}/${file}`);
    return await readPeftDirectory(path);
  }

  async #factorsFor(digest: string | undefined): Promise<FactorSet> {
    if (digest !== undefined) return await this.#registry.factors.get(digest);
    const [first] = this.#registry.factors.inMemory();
    if (first === undefined) {
      throw new FieldError(
        "factors",
        "Cannot project LoRA: no factor set is loaded to project it onto; without 'project' it is " +
          "served as it is",
      );
    }
    return first;
  }

  /**
   * The real path, links followed.
   * @throws {NoSuchPathError} where it is outside of the root, or does not exist
   */
  async #resolve(path: string): Promise<string> {
    const absolute = path.startsWith("/") ? path : `${this.root}/${path}`;
    const real = path.includes("\0") ? undefined : await realPathOf(absolute);
    // One text for both: whether something exists outside the root is nobody's business.
    if (real === undefined || !isUnder(this.root, real)) {
      throw new NoSuchPathError(path);
    }
    return real;
  }

  async #walk(found: Found[], attempt: Attempt): Promise<void> {
    for (const entry of await entriesOf(this.root)) {
      const path = `${this.root}/${entry.name}`;
      if (!entry.isDirectory) pushFile(found, DEFAULT_TENANT, path, entry.name);
      else if (await isPeft(path)) found.push(peftAt(DEFAULT_TENANT, path, entry.name));
      else await attempt(path, () => walkTenant(found, path, entry.name));
    }
  }
}

/**
 * Writes a core as a PEFT directory, made where it is missing. @throws as `exportPeft` does.
 *
 * @example
 * ```ts
 * import { readCore, readFactors, writePeftDirectory } from "@lembas/lembas";
 *
 * const core = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * const factors = readFactors(await Deno.readFile("tests/fixtures/adapters/factors.safetensors"));
 * const directory = await Deno.makeTempDir();
 * await writePeftDirectory(directory, core, factors, { baseModel: "HuggingFaceTB/SmolLM2-135M" });
 * ```
 */
export async function writePeftDirectory(
  path: string,
  core: Core,
  factors: FactorSet,
  options: PeftExportOptions,
): Promise<void> {
  const { config, weights } = exportPeft(core, factors, options);
  await Deno.mkdir(path, { recursive: true });
  await Deno.writeTextFile(`${path}/${CONFIG_FILE}`, JSON.stringify(config, null, 2) + "\n");
  await Deno.writeFile(`${path}/${WEIGHTS_FILE}`, weights);
}

type Attempt = (path: string, step: () => Promise<void>) => Promise<void>;

interface Found {
  readonly type: "file" | "peft";
  readonly path: string;
  readonly name: string;
}

async function walkTenant(found: Found[], path: string, tenant: string): Promise<void> {
  for (const { name, isDirectory } of await entriesOf(path)) {
    const below = `${path}/${name}`;
    if (!isDirectory) pushFile(found, tenant, below, name);
    else if (await isPeft(below)) found.push(peftAt(tenant, below, name));
  }
}

function pushFile(found: Found[], tenant: string, path: string, file: string): void {
  if (!file.endsWith(EXTENSION)) return;
  found.push({ type: "file", path, name: `${tenant}/${file.slice(0, -EXTENSION.length)}` });
}

function peftAt(tenant: string, path: string, name: string): Found {
  return { type: "peft", path, name: `${tenant}/${name}` };
}

/** Sorted by name, without hidden ones, links to directories seen as directories. */
async function entriesOf(path: string): Promise<{ name: string; isDirectory: boolean }[]> {
  const entries: { name: string; isDirectory: boolean }[] = [];
  for await (const { name, isDirectory, isSymlink } of Deno.readDir(path)) {
    if (name.startsWith(".")) continue;
    const target = isSymlink ? await statOf(`${path}/${name}`) : undefined;
    entries.push({ name, isDirectory: isDirectory || target?.isDirectory === true });
  }
  return entries.sort((a, b) => a.name < b.name ? -1 : 1);
}

async function isPeft(path: string): Promise<boolean> {
  return await statOf(`${path}/${CONFIG_FILE}`) !== undefined;
}

async function statOf(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch {
    return undefined;
  }
}

async function realPathOf(path: string): Promise<string | undefined> {
  try {
    return await Deno.realPath(path);
  } catch {
    return undefined;
  }
}

function isUnder(root: string, path: string): boolean {
  return path.startsWith(root.endsWith("/") ? root : `${root}/`);
}
