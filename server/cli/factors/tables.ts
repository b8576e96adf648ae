/** Captured energy and overlaps as people read them: tables of percentages and degrees. */
import {
  type BasisOverlap,
  type CapturedEnergy,
  meanEnergy,
} from "../../../adapters/lotr/energy.ts";
import type { ToldCore } from "./compress_output.ts";
import type { ModuleName } from "../../../src/models/hook.ts";

/** Energies under the name that their factor set is shown by. */
export interface NamedEnergies {
  readonly name: string;
  readonly energies: readonly CapturedEnergy[];
}

/** Rows of cells, the first column to the left and the others to the right. */
export function tableText(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0))
  );
  const line = (row: readonly string[]) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))
      .join("  ").trimEnd();
  return rows.map(line).join("\n");
}

/** What each set holds, by linear and layer: of the input basis, the output basis and both. */
export function energyTable(sets: readonly NamedEnergies[]): string {
  const [first] = sets;
  if (first === undefined) return "";
  const modules = [...new Set(first.energies.map(({ module }) => module))];
  const layers = [...new Set(first.energies.map(({ layer }) => layer))];
  const titles = sets.flatMap(({ name }) =>
    ["A", "B", "A and B"].map((what) => sets.length > 1 ? `${name} ${what}` : what)
  );
  const row = (title: string, filter: (energy: CapturedEnergy) => boolean) => [
    title,
    ...sets.flatMap(({ energies }) => cellsOf(energies.filter(filter))),
  ];
  return tableText([
    ["energy held", ...titles],
    row("all", () => true),
    ...modules.map((module) => row(module, (energy) => energy.module === module)),
    ...layers.map((layer) => row(`layer ${layer}`, (energy) => energy.layer === layer)),
  ]);
}

/** Overlap and principal angles of each basis. */
export function overlapTable(overlaps: readonly BasisOverlap[]): string {
  const degrees = (angle: number | undefined) => `${(angle ?? NaN).toFixed(1)}°`;
  return tableText([
    ["basis", "overlap", "by chance", "smallest", "median", "largest angle"],
    ...overlaps.map(({ name, overlap, chance, angles }) => [
      name,
      percent(overlap),
      percent(chance),
      degrees(angles[0]),
      degrees(angles[Math.floor(angles.length / 2)]),
      degrees(angles.at(-1)),
    ]),
  ]);
}

/** What compressed LoRAs' cores hold of them, cut to each of the ranks; the mean comes first. */
export function capturedTable(cores: readonly ToldCore[], ranks: readonly number[]): string {
  const shares = ({ captured }: ToldCore) => ranks.map((rank) => captured[rank - 1] ?? 0);
  const means = ranks.map((_, i) =>
    cores.reduce((sum, core) => sum + (shares(core)[i] ?? 0), 0) / cores.length
  );
  return tableText([
    ["energy held", "set", ...ranks.map((rank) => `rank ${rank}`)],
    ["mean", "", ...means.map(percent)],
    ...cores.map((core) => [core.name, String(core.set + 1), ...shares(core).map(percent)]),
  ]);
}

/** The same numbers for scripts: means of all, by linear and by layer, and each linear's own. */
export function energyReport(energies: readonly CapturedEnergy[]): Record<string, unknown> {
  const modules = new Set<ModuleName>(energies.map(({ module }) => module));
  const layers = new Set(energies.map(({ layer }) => layer));
  return {
    all: meanEnergy(energies),
    modules: Object.fromEntries(
      [...modules].map((module) => [
        module,
        meanEnergy(energies.filter((energy) => energy.module === module)),
      ]),
    ),
    layers: [...layers].map((layer) =>
      meanEnergy(energies.filter((energy) => energy.layer === layer))
    ),
    linears: energies,
  };
}

function cellsOf(energies: readonly CapturedEnergy[]): string[] {
  const { input, output, core } = meanEnergy(energies);
  return [input, output, core].map(percent);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
