/**
 * Wheels through `pip download`, so that pip's own configuration names the index: it knows no URL. pip
 * keeps a download in a temporary directory until it is complete, whose size is the progress.
 */
import { bytesUnder } from "../../util/disk.ts";
import type { Progress } from "./progress.ts";

/** There is no Python with pip on this machine: the caller may try another source. */
export class PipMissingError extends Error {
  override readonly name = "PipMissingError";
}

export interface PypiPackage {
  readonly name: string;
  readonly version: string;
}

export interface PipOptions {
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
  /** The CPython that the wheel is for, such as "3.12"; default: the one that runs pip. */
  readonly python?: string;
  /** false: pip does not keep the wheel in its own cache. */
  readonly kept?: boolean;
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
 * Downloads one wheel into a directory that holds no other; the wheel's path. Give a directory with a
 * name of its own: the pip of a process that was killed may still be writing to that one's.
 *
 * @throws {PipMissingError} where there is no pip
 * @throws {TypeError} with pip's reason where it fails
 */
export async function downloadWheel(
  { name, version }: PypiPackage,
  directory: string,
  options: PipOptions,
): Promise<string> {
  const temporary = `${directory}/tmp`;
  await Deno.mkdir(temporary, { recursive: true });
  const args = ["-c", RUN_PIP, "download", "--no-deps", "--no-input", "--only-binary=:all:"];
  args.push("--disable-pip-version-check", "--dest", directory);
  if (options.python !== undefined) {
    args.push("--implementation", "cp", "--python-version", options.python);
  }
  args.push(...options.kept === false ? ["--no-cache-dir"] : [], `${name}==${version}`);
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
  { progress, signal }: PipOptions,
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
