/**
 * A PEFT LoRA brought onto a factor set by projection, `G = (s_peft / s) · A⁺·ΔW·B⁺`, and what is
 * lost by it. ΔW is never formed: everything goes through the low-rank factors, the energies
 * through their Gram matrices.
 */
import { FieldRangeError } from "../../../src/util/errors.ts";
import { type ModuleName, MODULES } from "../../../src/models/hook.ts";
import { type Core, coreFrom } from "../core.ts";
import { factorsAt, type FactorSet } from "../factors.ts";
import { decode } from "../format.ts";
import {
  type Dense,
  dense,
  multiply,
  pseudoInverseOf,
  scaled,
  traceOfProduct,
  transpose,
} from "../linalg.ts";
import { type PeftFiles, type PeftLinear, peftLinears } from "../../lora/peft_files.ts";
import { checkFinite } from "../stack.ts";

/** A LoRA that loses more than this share of its energy is refused unless `allowLossy`. */
export const MAX_RESIDUAL = 0.05;

/** What the projection of one linear lost. */
export interface LinearResidual {
  readonly layer: number;
  readonly module: ModuleName;
  /** ‖s·ΔW‖², squared Frobenius norm. */
  readonly energy: number;
  /** Share of the energy outside the factors' span, 0 to 1; 1 for a module that has no factors. */
  readonly residual: number;
}

export interface ProjectionReport {
  /** Share of the whole energy that is lost, 0 to 1. */
  readonly residual: number;
  readonly linears: readonly LinearResidual[];
}

export interface PeftImport {
  readonly core: Core;
  readonly report: ProjectionReport;
}

/** What to do with a LoRA that does not lie within the factors. */
const ROADS = "Serve it as it is: load it without 'project' (deno task serve --lora-modules " +
  "NAME=DIR). Or make factors for it and others, with a core of each: deno task factors make " +
  "--from-loras DIR. Or have a core learn from it: deno task train --teacher NAME --data " +
  "PROMPTS.jsonl. 'allow_lossy' takes it all the same";

/** A LoRA of which too much would be lost; the report says where. */
export class LossyImportError extends FieldRangeError {
  override readonly name = "LossyImportError";
  constructor(message: string, readonly report: ProjectionReport) {
    super("path", message);
  }
}

/** One linear's LoRA in x·W order: ΔW = scale·p·q, p [d_in, r], q [r, d_out]. */
interface LowRank {
  readonly layer: number;
  readonly module: ModuleName;
  readonly p: Dense;
  readonly q: Dense;
  readonly scale: number;
}

/**
 * Projects a LoRA onto the factors, at the factor set's rank and scale.
 *
 * @throws {LossyImportError} where more than 5% of the energy is lost and `allowLossy` is not set
 * @throws {TypeError | RangeError} naming what is unsupported, missing or of the wrong shape
 *
 * @example
 * ```ts
 * import { importPeft, readCore, readFactors, readPeftDirectory, writePeftDirectory } from "@lembas/lembas";
 *
 * const core = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * const factors = readFactors(await Deno.readFile("tests/fixtures/adapters/factors.safetensors"));
 * const directory = await Deno.makeTempDir();
 * await writePeftDirectory(directory, core, factors, { baseModel: "HuggingFaceTB/SmolLM2-135M" });
 * const { report } = importPeft(await readPeftDirectory(directory), factors);
 * console.assert(report.residual < 0.001);
 * ```
 */
export function importPeft(
  files: PeftFiles,
  factors: FactorSet,
  options: { readonly allowLossy?: boolean } = {},
): PeftImport {
  const deltas = peftLinears(files).map((linear) => lowRank(linear, factors.layers));
  const { modules, rank } = factors;
  const cores = new Float32Array(factors.layers * modules.length * rank ** 2);
  const projectors = new Map(modules.map((module) => [module, projectorOf(factors, module)]));
  const linears = deltas.map((delta): LinearResidual => {
    const { layer, module } = delta;
    checkWidths(delta, factors);
    const energy = energyOf(delta);
    const project = projectors.get(module);
    if (project === undefined) return { layer, module, energy, residual: energy > 0 ? 1 : 0 };
    const { core, energy: kept } = project(delta);
    cores.set(core, (layer * modules.length + modules.indexOf(module)) * rank ** 2);
    const residual = energy > 0 ? Math.max(0, 1 - kept / energy) : 0;
    return { layer, module, energy, residual };
  });
  const report = { residual: totalResidual(linears), linears };
  if (report.residual > MAX_RESIDUAL && options.allowLossy !== true) throw lossy(report, factors);
  return { core: coreFrom(factors, rank, cores), report };
}

type Projector = (delta: LowRank) => { readonly core: Float32Array; readonly energy: number };

function projectorOf(factors: FactorSet, module: ModuleName): Projector {
  const { rank } = factors;
  const { a: aValues, b: bValues } = factorsAt(factors, module);
  const a = dense(aValues.length / rank, rank, aValues);
  const b = dense(rank, bValues.length / rank, bValues);
  const aInverse = pseudoInverseOf(a);
  const bInverse = transpose(pseudoInverseOf(transpose(b)));
  const aGram = multiply(transpose(a), a);
  const bGram = multiply(b, transpose(b));
  const s = factors.alpha / rank;
  return ({ p, q, scale }) => {
    const g = scaled(multiply(multiply(aInverse, p), multiply(q, bInverse)), scale);
    const left = multiply(transpose(g), multiply(aGram, g));
    return { core: Float32Array.from(scaled(g, 1 / s).data), energy: traceOfProduct(left, bGram) };
  };
}

function energyOf({ p, q, scale }: LowRank): number {
  const left = multiply(transpose(p), p);
  return scale ** 2 * traceOfProduct(left, multiply(q, transpose(q)));
}

function totalResidual(linears: readonly LinearResidual[]): number {
  const energy = linears.reduce((sum, linear) => sum + linear.energy, 0);
  const lost = linears.reduce((sum, linear) => sum + linear.energy * linear.residual, 0);
  return energy > 0 ? lost / energy : 0;
}

function lossy(report: ProjectionReport, factors: FactorSet): LossyImportError {
  const percent = (share: number) => `${(share * 100).toFixed(1)}%`;
  const parts = MODULES.flatMap((module) => {
    const linears = report.linears.filter((linear) => linear.module === module);
    return linears.length === 0 ? [] : [`${module} ${percent(totalResidual(linears))}`];
  });
  return new LossyImportError(
    `Cannot project LoRA: ${percent(report.residual)} of its energy lies outside factor set ` +
      `${factors.digest} (${parts.join(", ")}), at most ${percent(MAX_RESIDUAL)} may. ` +
      ROADS,
    report,
  );
}

function checkWidths({ layer, module, p, q }: LowRank, factors: FactorSet): void {
  if (!factors.modules.includes(module)) return;
  const { a, b } = factorsAt(factors, module);
  const wanted = [a.length / factors.rank, b.length / factors.rank];
  if (p.rows !== wanted[0] || q.columns !== wanted[1]) {
    throw new TypeError(
      `Cannot project LoRA: ${module} of layer ${layer} goes ${p.rows}→${q.columns}, ` +
        `the factor set's ${wanted.join("→")}`,
    );
  }
}

function lowRank({ layer, module, rank, scale, a, b }: PeftLinear, layers: number): LowRank {
  if (layer >= layers) {
    throw new RangeError(
      `Cannot project LoRA: it adapts layer ${layer}, which is not among the base's ${layers}`,
    );
  }
  const name = `${module} of layer ${layer}`;
  const [, inputs = 0] = a.shape;
  const [outputs = 0] = b.shape;
  const p = transpose(dense(rank, inputs, finite(`${name}, lora_A`, a)));
  const q = transpose(dense(outputs, rank, finite(`${name}, lora_B`, b)));
  return { layer, module, p, q, scale };
}

function finite(name: string, tensor: PeftLinear["a"]): Float32Array {
  const values = decode(name, tensor);
  checkFinite(name, values);
  return values;
}
