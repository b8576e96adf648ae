/** What `deno task factors make --from-loras` does: LoRAs in, factor sets and a core for each out. */
import { basename } from "node:path";
import {
  jointFactors,
  type JointFit,
  mostReads,
} from "../../../adapters/lotr/joint/joint_factors.ts";
import { isPeftDirectory, loraSource } from "../../../adapters/lotr/joint/peft_source.ts";
import { stackOf } from "../../../adapters/lotr/stack.ts";
import { naming } from "../flags.ts";
import type { CompressFlags } from "./compress_flags.ts";
import {
  FACTORS_NAME,
  meanCaptured,
  ranksUpTo,
  type ToldCore,
  writeFit,
} from "./compress_output.ts";
import { workDisplay } from "./display.ts";
import type { FactorsEnvironment } from "./matrices.ts";
import { capturedTable } from "./tables.ts";

/** @throws {Error} of one line that says what is wrong */
export async function compress(
  flags: CompressFlags,
  { load, screen, print }: FactorsEnvironment,
): Promise<void> {
  const { ranks, clusters, seed, storage, out } = flags;
  const directories = await directoriesOf(flags.loras);
  using base = await load(flags.model);
  const stack = stackOf(await base.checkpoint.digest(), base.checkpoint.config);
  const rank = Math.max(...ranks);
  const sources = await Promise.all(
    [...directories].map(([name, path]) => loraSource(name, path)),
  );
  const options = { stack, rank, sources, clusters, enough: flags.enough, seed };
  const show = workDisplay(screen);
  const total = mostReads(options);
  let done = 0;
  const onRead = (what: string) => show(Math.min(++done, total - 1), total, `${what} LoRAs`);
  const fit = await jointFactors({ ...options, onRead });
  const cores = out === undefined ? await toldOf(fit) : await naming(
    "--out",
    out,
    () => writeFit(fit, sources, { out, storage, settings: { clusters, seed } }),
  );
  show(total, total, "LoRAs");
  print(capturedTable(cores, ranks.length > 1 ? ranks : ranksUpTo(rank)));
  if (out === undefined) return;
  print(JSON.stringify({ out, rank, sets: fit.sets.length, captured: meanCaptured(cores) }));
}

/**
 * PEFT directories by their names: those given, and those within directories that are none.
 * @throws {TypeError} where there is none, or two files would have one name
 */
async function directoriesOf(given: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const path of given) {
    const below = await naming("--from-loras", path, () => peftBelow(path));
    for (const directory of below) {
      const name = basename(directory);
      const other = FACTORS_NAME.test(name) ? "a factor set" : found.get(name);
      if (other !== undefined) {
        throw new TypeError(
          `Cannot use --from-loras ${directory}: its core would be ${name}.safetensors, ` +
            `as that of ${other}`,
        );
      }
      found.set(name, directory);
    }
  }
  return found;
}

async function peftBelow(path: string): Promise<readonly string[]> {
  if (await isPeftDirectory(path)) return [path];
  const names = (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).sort();
  const below = names.map((name) => `${path}/${name}`);
  const isPeft = await Promise.all(below.map(isPeftDirectory));
  const found = below.filter((_, i) => isPeft[i]);
  if (found.length === 0) throw new TypeError("it is no PEFT directory, and holds none");
  return found;
}

async function toldOf(fit: JointFit): Promise<readonly ToldCore[]> {
  const told: ToldCore[] = [];
  for await (const { core: _, ...rest } of fit.cores()) told.push(rest);
  return told;
}
