/**
 * What compressing LoRAs leaves: `factors.safetensors` or one file for each cluster, NAME.safetensors
 * for each LoRA, and `report.json` with what each lost and what it takes.
 */
import type { FactorSet } from "../../../adapters/lotr/factors.ts";
import {
  readFactors,
  type Storage,
  writeCore,
  writeFactors,
} from "../../../adapters/lotr/format.ts";
import type { JointCore, JointFit } from "../../../adapters/lotr/joint/joint_factors.ts";
import type { LoraSource } from "../../../adapters/lotr/joint/stacked.ts";

/** A core as it is told of. */
export type ToldCore = Omit<JointCore, "core">;

interface StoredSet {
  readonly file: string;
  readonly bytes: number;
  readonly set: FactorSet;
}

interface StoredCore extends ToldCore {
  readonly file: string;
  readonly bytes: number;
}

/** A LoRA's name may not be that of a file of factors. */
export const FACTORS_NAME = /^factors(?:-\d+)?$/;

/** Writes sets, then cores one after the other, then the report. */
export async function writeFit(
  fit: JointFit,
  sources: readonly LoraSource[],
  { out, storage, settings }: {
    readonly out: string;
    readonly storage: Storage;
    readonly settings: Readonly<Record<string, unknown>>;
  },
): Promise<readonly ToldCore[]> {
  await Deno.mkdir(out, { recursive: true });
  const sets = await writeSets(fit.sets, out, storage);
  const cores: StoredCore[] = [];
  // a set that was rounded to float16 is another one, whose digest the cores have to bear
  for await (const { core, ...told } of fit.cores(sets.map(({ set }) => set))) {
    const file = `${told.name}.safetensors`;
    const bytes = writeCore(core, storage);
    await Deno.writeFile(`${out}/${file}`, bytes);
    cores.push({ ...told, file, bytes: bytes.length });
  }
  const report = reportOf(sets, cores, sources);
  const text = JSON.stringify({ ...settings, ...report }, null, 1);
  await Deno.writeTextFile(`${out}/report.json`, `${text}\n`);
  return cores;
}

async function writeSets(
  sets: readonly FactorSet[],
  out: string,
  storage: Storage,
): Promise<readonly StoredSet[]> {
  return await Promise.all(sets.map(async (set, i) => {
    const file = sets.length === 1 ? "factors.safetensors" : `factors-${i + 1}.safetensors`;
    const bytes = writeFactors(set, storage);
    await Deno.writeFile(`${out}/${file}`, bytes);
    return { file, bytes: bytes.length, set: readFactors(bytes) };
  }));
}

function reportOf(
  sets: readonly StoredSet[],
  cores: readonly StoredCore[],
  sources: readonly LoraSource[],
) {
  return {
    captured: meanCaptured(cores),
    sets: sets.map(({ file, bytes, set: { digest, base, rank, modules } }) => (
      { file, bytes, digest, base, rank, modules }
    )),
    loras: cores.map(({ name, file, bytes, set, captured }, i) => ({
      name,
      file,
      factors: sets[set].file,
      bytes,
      loraBytes: sources[i].bytes,
      captured: captured.at(-1),
      capturedByRank: Object.fromEntries(
        ranksUpTo(captured.length).map((rank) => [rank, captured[rank - 1]]),
      ),
    })),
  };
}

/** The mean of what whole cores hold. */
export function meanCaptured(cores: readonly ToldCore[]): number {
  return cores.reduce((sum, { captured }) => sum + (captured.at(-1) ?? 0), 0) / cores.length;
}

/** Powers of two from 8 below the rank, and the rank. */
export function ranksUpTo(rank: number): readonly number[] {
  return [...[8, 16, 32].filter((one) => one < rank), rank];
}
