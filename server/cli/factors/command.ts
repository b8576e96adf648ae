/** What `deno task factors` does: makes, shows, compares and exports. */
import { writePeftDirectory } from "../../../adapters/catalog/directory.ts";
import { type CapturedEnergy, compareFactors, FactorSpans } from "../../../adapters/lotr/energy.ts";
import { FactorSet } from "../../../adapters/lotr/factors.ts";
import { fileKind, readCore, readFactors, writeFactors } from "../../../adapters/lotr/format.ts";
import { defaultFactors } from "../../../adapters/lotr/make/default_factors.ts";
import { gaussianFactors, randomFactors, svdFactors } from "../../../adapters/lotr/make/makers.ts";
import { stackOf } from "../../../adapters/lotr/stack.ts";
import type { LinearMatrix } from "../../../src/train/gradients/gradient_source.ts";
import { naming } from "../flags.ts";
import { compress } from "./compress.ts";
import { factorsHelp } from "./help.ts";
import { workDisplay, type WorkProgress } from "./display.ts";
import type { EnergyOf, ExportFlags, FactorsCommand, MakeFlags, MeasureFlags } from "./flags.ts";
import {
  type FactorsBase,
  type FactorsEnvironment,
  gradientMatrices,
  readCalibration,
  weightMatrices,
} from "./matrices.ts";
import { energyReport, energyTable, overlapTable } from "./tables.ts";

/** @throws {Error} of one line that says what is wrong */
export async function runFactors(
  command: FactorsCommand,
  environment: FactorsEnvironment,
): Promise<void> {
  switch (command.type) {
    case "help":
      return environment.print(factorsHelp(command.of));
    case "make":
      return await make(command.flags, environment);
    case "compress":
      return await compress(command.flags, environment);
    case "inspect":
      return await inspect(command.flags, environment);
    case "compare":
      return await compare(command.flags, environment);
    case "export":
      return await exportCore(command.flags, environment);
  }
}

async function make(flags: MakeFlags, { load, screen, print }: FactorsEnvironment): Promise<void> {
  using base = await load(flags.model);
  const factors = await makeFactors(base, flags, workDisplay(screen));
  const bytes = writeFactors(factors, flags.storage);
  await naming("--out", flags.out, () => Deno.writeFile(flags.out, bytes));
  print(JSON.stringify({ out: flags.out, ...describeFile(bytes) }));
}

/** Makes the factor set that the flags ask for; `progress` hears of the work. */
export async function makeFactors(
  base: FactorsBase,
  flags: MakeFlags,
  progress: WorkProgress,
): Promise<FactorSet> {
  const { checkpoint, openSource, cache } = base;
  const { rank, modules, seed } = flags;
  const stack = stackOf(await checkpoint.digest(), checkpoint.config);
  switch (flags.maker) {
    case "gradient":
      return defaultFactors({
        checkpoint,
        openSource,
        rank,
        modules,
        examples: await naming(
          "--calibration",
          flags.calibration ?? "",
          () => readCalibration(flags.calibration, checkpoint),
        ),
        progress: ({ done, total, what }) => progress(done, total, what),
        directory: cache,
      });
    case "random":
      return randomFactors({ stack, rank, modules, seed });
    case "gaussian":
      return gaussianFactors({ stack, rank, modules, seed });
    case "svd":
      return svdFactors({ stack, rank, modules, weights: checkpoint.weights, progress });
  }
}

/** One file as JSON for people and scripts. @throws as the readers of the two formats do. */
export function describeFile(bytes: Uint8Array): Record<string, unknown> {
  const kind = fileKind(bytes);
  if (kind === undefined) throw new TypeError("it is neither a factor nor a core file of lembas");
  const content = kind === "core" ? readCore(bytes) : readFactors(bytes);
  const { digest, base, layers, rank, alpha, modules } = content;
  const own = content instanceof FactorSet
    ? { residentBytes: content.residentBytes }
    : { factors: content.factors };
  return { kind, digest, base, layers, rank, alpha, modules, ...own, fileBytes: bytes.length };
}

async function inspect(flags: MeasureFlags, environment: FactorsEnvironment): Promise<void> {
  if (flags.energy === undefined) {
    for (const file of flags.files) {
      environment.print(JSON.stringify({ file, ...await readAs(file, describeFile) }));
    }
    return;
  }
  const sets = await readSets(flags.files);
  const named = await measure(sets, flags.energy, flags, environment);
  for (const { name, factors, energies } of named) {
    if (flags.output === "json") {
      environment.print(
        JSON.stringify({ file: name, digest: factors.digest, energy: energyReport(energies) }),
      );
    } else {
      environment.print(`${name}, of the ${flags.energy}:`);
      environment.print(energyTable([{ name, energies }]));
    }
  }
}

async function compare(flags: MeasureFlags, environment: FactorsEnvironment): Promise<void> {
  const sets = await readSets(flags.files);
  const [one, other] = sets.map(({ factors }) => factors);
  if (one === undefined || other === undefined) {
    throw new TypeError("internal: two sets are wanted");
  }
  const overlaps = compareFactors(one, other, flags.rank);
  const named = flags.energy === undefined
    ? []
    : await measure(sets, flags.energy, flags, environment);
  if (flags.output === "json") {
    const energies = named.map(({ energies }) => energyReport(energies));
    return environment.print(
      JSON.stringify({
        files: flags.files,
        digests: [one.digest, other.digest],
        overlaps,
        energies,
      }),
    );
  }
  environment.print(overlapTable(overlaps));
  if (named.length === 0) return;
  environment.print(`\nof the ${flags.energy}, by the first set (1) and the second (2):`);
  environment.print(energyTable(named.map(({ energies }, i) => ({ name: `${i + 1}:`, energies }))));
}

interface NamedSet {
  readonly name: string;
  readonly factors: FactorSet;
}

async function readSets(files: readonly string[]): Promise<NamedSet[]> {
  return await Promise.all(
    files.map(async (name) => ({ name, factors: await readAs(name, readFactors) })),
  );
}

/** What each set holds of the matrices, each of which is computed once for all sets. */
async function measure(
  sets: readonly NamedSet[],
  energy: EnergyOf,
  { model, calibration, rank }: MeasureFlags,
  { load, screen }: FactorsEnvironment,
) {
  using base = await load(model);
  const stack = stackOf(await base.checkpoint.digest(), base.checkpoint.config);
  for (const { factors } of sets) factors.checkStack(stack);
  const modules = [...new Set(sets.flatMap(({ factors }) => factors.modules))];
  const matrices: AsyncIterable<LinearMatrix> = energy === "weights"
    ? weightMatrices(base, modules)
    : gradientMatrices(base, modules, calibration, workDisplay(screen));
  const named = sets.map(({ name, factors }) => {
    const spans = new FactorSpans(factors, Math.min(rank ?? factors.rank, factors.rank));
    return { name, factors, spans, energies: [] as CapturedEnergy[] };
  });
  for await (const matrix of matrices) {
    for (const { factors, spans, energies } of named) {
      if (factors.modules.includes(matrix.module)) energies.push(spans.captured(matrix));
    }
  }
  return named;
}

async function exportCore(
  { core, factors, out, baseModel }: ExportFlags,
  { print }: FactorsEnvironment,
): Promise<void> {
  const content = await naming("--core", core, () => readFile(core, readCore));
  const set = await naming("--factors", factors, () => readFile(factors, readFactors));
  await naming("--out", out, () => writePeftDirectory(out, content, set, { baseModel }));
  print(JSON.stringify({ out, core: content.digest, rank: content.rank }));
}

async function readFile<T>(file: string, read: (bytes: Uint8Array) => T): Promise<T> {
  return read(await Deno.readFile(file));
}

/** @throws {TypeError} naming the file */
async function readAs<T>(file: string, read: (bytes: Uint8Array) => T): Promise<T> {
  try {
    return await readFile(file, read);
  } catch (error) {
    throw new TypeError(`${file}: ${error instanceof Error ? error.message : error}`);
  }
}
