/**
 * LoRAs as slices of one stack: each brought to energy 1, so that none is drowned by another, and
 * never multiplied out. A linear's slice is ΔW = pᵀ·q, p [k, d_in] and q [k, d_out].
 */
import { type ModuleName, SITE_OF, type SiteName } from "../../../src/models/hook.ts";
import { type Dense, gramOf, multiply, traceOfProduct, transpose } from "../linalg.ts";

/** What a LoRA adds to one linear. */
export interface Slice {
  readonly layer: number;
  readonly module: ModuleName;
  /** [k, d_in]. */
  readonly p: Dense;
  /** [k, d_out]. */
  readonly q: Dense;
}

/** A LoRA of many; it is read anew for each pass, so that one at a time is in memory. */
export interface LoraSource {
  readonly name: string;
  /** Size of its file, where it has one. */
  readonly bytes?: number;
  /** The linears' ΔW = pᵀ·q. */
  read(): Promise<readonly Slice[]>;
}

/** Orthonormal columns that all layers share: A of a site [d_in, r], Bᵀ of a module [d_out, r]. */
export interface Bases {
  readonly inputs: ReadonlyMap<SiteName, Dense>;
  readonly outputs: ReadonlyMap<ModuleName, Dense>;
}

/** ‖ΔW‖² of all linears, squared Frobenius norms. */
export function energyOf(slices: readonly Slice[]): number {
  return slices.reduce((sum, { p, q }) => sum + traceOfProduct(gramOf(p), gramOf(q)), 0);
}

/**
 * The slices at energy 1.
 * @throws {TypeError} where the LoRA adds nothing
 */
export function normalised(name: string, slices: readonly Slice[]): readonly Slice[] {
  const energy = energyOf(slices);
  if (!(energy > 0)) {
    throw new TypeError(`Cannot compress ${name}: it adds nothing, its energy is ${energy}`);
  }
  const by = 1 / Math.sqrt(energy);
  return slices.map((slice) => ({
    ...slice,
    q: { ...slice.q, data: slice.q.data.map((value) => value * by) },
  }));
}

/** A slice as the bases see it: p·A and q·Bᵀ, both [k, r]; undefined where they do not span it. */
export function seen(
  { module, p, q }: Slice,
  { inputs, outputs }: Bases,
): { readonly u: Dense; readonly v: Dense } | undefined {
  const [a, b] = [inputs.get(SITE_OF[module]), outputs.get(module)];
  if (a === undefined || b === undefined) return undefined;
  return { u: multiply(p, a), v: multiply(q, b) };
}

/** What bases hold of a LoRA of energy 1: Σ ‖A⊤·ΔW·B⊤‖², 0 to 1. */
export function capturedBy(bases: Bases, slices: readonly Slice[]): number {
  return slices.reduce((sum, slice) => {
    const view = seen(slice, bases);
    return view === undefined ? sum : sum + traceOfProduct(gramOf(view.u), gramOf(view.v));
  }, 0);
}

/** The core of a slice, (p·A)ᵀ·(q·Bᵀ), [r, r]; undefined as of `seen`. */
export function coreOf(slice: Slice, bases: Bases): Dense | undefined {
  const view = seen(slice, bases);
  return view === undefined ? undefined : multiply(transpose(view.u), view.v);
}
