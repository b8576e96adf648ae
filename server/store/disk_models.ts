/**
 * Published models in the data directory: `models/<job>.json` beside its core file, and the factor
 * sets that their cores name in `factors/`. It knows neither registry nor engine.
 */
import { readCore, readFactors } from "../../adapters/format.ts";
import { writeAtomically } from "../../src/checkpoint/cache.ts";
import { type DataDirectory, ifThere, readRecord, writeRecord } from "./data_directory.ts";
import type { ModelStore, PublishedModel } from "./store.ts";

const FOLDER = "models";
const FACTORS = "factors";
const EXTENSION = ".safetensors";

export class DiskModelStore implements ModelStore {
  readonly #directory: DataDirectory;
  /** By id, oldest first. */
  readonly #models = new Map<string, PublishedModel>();

  private constructor(directory: DataDirectory) {
    this.#directory = directory;
  }

  /** Reads all records; a damaged one, or one whose core is damaged, is set aside. */
  static async open(directory: DataDirectory): Promise<DiskModelStore> {
    const store = new DiskModelStore(directory);
    const found: PublishedModel[] = [];
    for (const name of await directory.names(FOLDER)) {
      if (!name.endsWith(".json")) continue;
      try {
        const model = await readRecord(directory.path(FOLDER, name)) as PublishedModel;
        checkDigest(readCore(await store.core(model)).digest, model.core);
        found.push(model);
      } catch (error) {
        await directory.setAside([FOLDER, name], error);
      }
    }
    for (const model of found.sort((a, b) => a.createdAt - b.createdAt)) {
      store.#models.set(model.id, model);
    }
    return store;
  }

  async publish(model: PublishedModel, core: Uint8Array): Promise<void> {
    await writeAtomically(this.#path(model.jobId + EXTENSION), core);
    await writeRecord(this.#path(`${model.jobId}.json`), model);
    this.#models.set(model.id, model);
  }

  all(): Promise<readonly PublishedModel[]> {
    return Promise.resolve([...this.#models.values()]);
  }

  find(id: string): Promise<PublishedModel | undefined> {
    return Promise.resolve(this.#models.get(id));
  }

  async core({ id, jobId }: PublishedModel): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await ifThere(Deno.readFile(this.#path(jobId + EXTENSION)));
    if (bytes !== undefined) return bytes;
    throw new RangeError(`Cannot read the core of ${id}: its file is gone`);
  }

  async remove(id: string): Promise<boolean> {
    const model = this.#models.get(id);
    if (model === undefined) return false;
    this.#models.delete(id);
    await this.#directory.remove(FOLDER, `${model.jobId}.json`);
    await this.#directory.remove(FOLDER, model.jobId + EXTENSION);
    return true;
  }

  async addFactors(digest: string, file: Uint8Array): Promise<void> {
    const path = this.#directory.path(FACTORS, digest + EXTENSION);
    if (await ifThere(Deno.stat(path)) !== undefined) return;
    await writeAtomically(path, file);
  }

  async factors(digest: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const parts = [FACTORS, digest + EXTENSION];
    const bytes = await ifThere(Deno.readFile(this.#directory.path(...parts)));
    if (bytes === undefined) return undefined;
    try {
      checkDigest(readFactors(bytes).digest, digest);
      return bytes;
    } catch (error) {
      await this.#directory.setAside(parts, error);
      return undefined;
    }
  }

  #path(name: string): string {
    return this.#directory.path(FOLDER, name);
  }
}

function checkDigest(found: string, recorded: string): void {
  if (found === recorded) return;
  throw new TypeError(`its digest is ${found}, recorded is ${recorded}`);
}
