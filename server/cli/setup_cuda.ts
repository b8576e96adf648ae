/**
 * The entry point of `deno task setup:cuda`: says what CUDA needs, fetches it once that is agreed to,
 * and gives the room back.
 */
// deno-lint-ignore-file no-console -- an entry point: its output is the console
import { parentOf } from "../../src/checkpoint/fetch/cache.ts";
import { standardErrorProgress } from "../../src/checkpoint/fetch/progress.ts";
import { lackOfDriver, readDriver } from "../../src/runtime/cuda/driver.ts";
import { cudaFolder } from "../../src/runtime/cuda/layout.ts";
import { cudaCanBe } from "../../src/runtime/cuda/open.ts";
import { openLibrary } from "../../src/runtime/onnx/ort_api.ts";
import { formatBytes } from "../../src/util/bytes.ts";
import { bytesUnder } from "../../src/util/disk.ts";
import { table } from "./admin/output.ts";
import { type CudaSetup, missingWheels, removeCuda, setUpCuda } from "./cuda/setup.ts";
import { CUDA_WHEELS, type CudaWheel } from "./cuda/wheels.ts";
import { type Asked, FlagError, flagsHelp, readCommandLine, type ToldTable } from "./flags.ts";

const FLAGS = {
  yes: { help: "fetch without asking" },
  remove: { help: "remove what was set up, of all versions" },
} as const satisfies ToldTable;

export const SETUP_CUDA_HELP = `deno task setup:cuda

Fetches what CUDA needs beside NVIDIA's driver, through pip into the cache directory
(LEMBAS_HOME moves it): ONNX Runtime's CUDA provider and NVIDIA's libraries for CUDA 13, on Linux x64.
It says sizes and licences first and asks; what was cut off goes on where it stopped.

Flags:
${flagsHelp(FLAGS)}
`;

/** What the command works with; tests bring their own. */
export interface SetupEnvironment {
  readonly setup: CudaSetup;
  readonly say: (text: string) => void;
  /** Asks whether to go on; undefined where there is nobody to ask. */
  readonly ask: (() => boolean) | undefined;
}

/** @throws {FlagError} for a command line that cannot be followed */
export function parseSetupCuda(args: readonly string[]): Asked<typeof FLAGS> {
  const line = { command: "deno task setup:cuda", flags: FLAGS, asks: ["help"] } as const;
  return readCommandLine(line, args, () => undefined);
}

/** Runs the command. */
export async function runSetupCuda(
  args: readonly string[],
  { setup, say, ask }: SetupEnvironment,
): Promise<void> {
  const asked = parseSetupCuda(args);
  if (asked.type !== "run") return say(SETUP_CUDA_HELP);
  const { folder } = setup;
  if (asked.values.remove) {
    const bytes = await removeCuda(parentOf(folder));
    return say(`removed ${parentOf(folder)}, ${formatBytes(bytes)}`);
  }
  const missing = missingWheels(setup);
  if (missing.length > 0) {
    say(plan(setup, missing));
    if (!asked.values.yes && !agreed(ask)) return say("nothing was fetched");
  }
  await setUpCuda(setup);
  say(
    `CUDA for ONNX Runtime ${setup.runtime.version} is set up in ${folder}, ` +
      `${formatBytes(bytesUnder(folder))}; ${driverText()}`,
  );
}

function agreed(ask: (() => boolean) | undefined): boolean {
  if (ask === undefined) throw new FlagError("Cannot ask whether to fetch these: pass --yes.");
  return ask();
}

function plan({ folder, runtime }: CudaSetup, missing: readonly CudaWheel[]): string {
  const rows = missing.map(({ name, version, licence, bytes }) => ({
    ...{ name, version, licence },
    size: formatBytes(bytes),
  }));
  const columns = ["name", "version", "size", "licence"] as const;
  const listed = table(rows, columns.map((name) => [name, (row) => String(row[name])]));
  const sum = (of: (wheel: CudaWheel) => number) =>
    formatBytes(missing.reduce((total, wheel) => total + of(wheel), 0));
  return `CUDA for ONNX Runtime ${runtime.version} needs these Python packages, through pip:\n\n` +
    `${listed}\n\n${sum(({ bytes }) => bytes)} to download, ${sum(({ unpacked }) => unpacked)} ` +
    `in ${folder}, each licence beside the libraries\n` +
    `To run: ${driverText()}\n`;
}

function driverText(): string {
  const driver = readDriver();
  const lack = lackOfDriver(driver);
  if (lack !== undefined) return lack;
  return driver.type === "found"
    ? `NVIDIA's driver finds ${driver.gpus.map(({ name }) => name).join(", ")}`
    : "";
}

function realSetup(): CudaSetup {
  if (!cudaCanBe()) {
    const { os, arch } = Deno.build;
    throw new TypeError(`Cannot set CUDA up: lembas runs it on Linux x64, this is ${os} ${arch}`);
  }
  const { version, commit, folder, close } = openLibrary();
  close();
  const runtime = { version, commit, folder };
  const progress = standardErrorProgress();
  return { folder: cudaFolder(version), wheels: CUDA_WHEELS, runtime, progress };
}

if (import.meta.main) {
  try {
    await runSetupCuda(Deno.args, {
      setup: realSetup(),
      say: (text) => console.log(text),
      ask: Deno.stdin.isTerminal() ? () => confirm("Fetch these?") : undefined,
    });
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exit(error instanceof FlagError ? 2 : 1);
  }
}
