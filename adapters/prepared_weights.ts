/**
 * Prepared weights in the cache directory: a folder for each base, in `weights/BASE/KEY`, where what
 * decides their bytes beside the base's digest is in the key. `about.json` says it for people, and
 * for those that clear away what can be used no longer.
 */
import { parentOf, removeIfThere, writeAtomically } from "../src/checkpoint/fetch/cache.ts";
import { cacheDirectory } from "../src/util/cache_directory.ts";
import type { Progress } from "../src/checkpoint/fetch/progress.ts";
import type { Checkpoint } from "../src/checkpoint/checkpoint.ts";
import { numbersOf } from "../src/checkpoint/expected_weights.ts";
import { bytesUnder } from "../src/util/disk.ts";
import { textDigest } from "../src/util/ids.ts";
import type { Smoothing } from "../src/models/parameters.ts";
import { writeSmoothing } from "../src/models/smooth.ts";
import { WeightFiles } from "../src/models/weight_files.ts";
import { processor } from "../src/runtime/cpu.ts";
import type { Device } from "../src/runtime/device.ts";

/** What a folder of prepared weights is for. */
export interface PreparedWeights {
  /** The model's name. */
  readonly model: string;
  /** The base's digest. */
  readonly base: string;
  readonly key: string;
  /** On disk, in bytes. */
  readonly bytes: number;
  /** When it was made; undefined where it does not say. */
  readonly made: Date | undefined;
  /** Whether this runtime on this processor cannot use it. */
  readonly stale: boolean;
  readonly folder: string;
}

interface About {
  readonly model: string;
  readonly made: string;
  /** ONNX Runtime's version and the processor's features, hashed. */
  readonly kernels: string;
}

/** Bases with more numbers than this have their weights kept on disk. */
const LARGE = 2 ** 24;

/** Whether a base's weights are worth keeping: small ones are made as fast as they are read. */
export function isLarge({ weights }: Checkpoint): boolean {
  return numbersOf(weights) > LARGE;
}

/** Opens a base's prepared weights, and clears away those of the same base that are stale. */
export async function openPrepared(
  device: Device,
  checkpoint: Checkpoint,
  scales: Smoothing | undefined,
  progress: Progress | undefined,
): Promise<WeightFiles> {
  const base = await checkpoint.digest();
  const kernels = kernelsOf(device);
  const folded = scales === undefined ? "" : writeSmoothing(scales);
  const key = textDigest(`${kernels}\n${folded}`).slice(0, 16);
  const folder = `${cacheDirectory()}/weights/${base}/${key}`;
  const about: About = { model: checkpoint.id, made: new Date().toISOString(), kernels };
  if (await readAbout(folder) === undefined) {
    await removeStale(base, kernels);
    await writeAtomically(`${folder}/about.json`, JSON.stringify(about));
  }
  return await WeightFiles.open({ device, folder, progress });
}

/** All prepared weights of the cache, by model and age. */
export async function listPrepared(device: Device): Promise<readonly PreparedWeights[]> {
  const kernels = kernelsOf(device);
  const root = `${cacheDirectory()}/weights`;
  const found: PreparedWeights[] = [];
  for (const base of folders(root)) {
    for (const key of folders(`${root}/${base}`)) {
      const folder = `${root}/${base}/${key}`;
      const about = await readAbout(folder);
      found.push({
        ...{ base, key, folder, bytes: bytesUnder(folder) },
        model: about?.model ?? "unknown",
        made: about && new Date(about.made),
        stale: about?.kernels !== kernels,
      });
    }
  }
  return found.sort((a, b) => a.model.localeCompare(b.model) || Number(a.made) - Number(b.made));
}

/** Removes prepared weights. A server that has them mapped keeps them until it ends. */
export async function removePrepared({ folder }: PreparedWeights): Promise<void> {
  await removeIfThere(folder);
  const parent = parentOf(folder);
  if (folders(parent).length === 0) await removeIfThere(parent);
}

async function removeStale(base: string, kernels: string): Promise<void> {
  const root = `${cacheDirectory()}/weights/${base}`;
  for (const key of folders(root)) {
    const about = await readAbout(`${root}/${key}`);
    if (about?.kernels !== kernels) await removeIfThere(`${root}/${key}`);
  }
}

async function readAbout(folder: string): Promise<About | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(`${folder}/about.json`));
  } catch {
    return undefined;
  }
}

function kernelsOf(device: Device): string {
  return textDigest(`${device.runtimeVersion}\n${processor()}`);
}

function folders(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].filter((entry) => entry.isDirectory).map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
