/**
 * What cores and factor sets have in common: the stack that they are made for (a base by digest, its
 * layers, and the widths of its linears), the checks of rank, alpha and module lists, and their
 * content digest.
 */
import { createHash } from "node:crypto";
import type { EncoderConfig } from "../../src/checkpoint/encoder/config.ts";
import type { DecoderConfig } from "../../src/checkpoint/checkpoint.ts";
import { type ModuleName, MODULES, SITE_OF, type SiteName, SITES } from "../../src/models/hook.ts";

export const MIN_RANK = 1;
export const MAX_RANK = 64;
export const DEFAULT_RANK = 32;
export const DEFAULT_MODULES: readonly ModuleName[] = ["q_proj", "v_proj"];

/** A base model as adapters see it. */
export interface Stack {
  /** SHA-256 of the base checkpoint, hex (`Checkpoint.digest()`). */
  readonly base: string;
  readonly layers: number;
  /** Width of each input, d_in. */
  readonly inputs: Readonly<Record<SiteName, number>>;
  /** Width of each linear's output, d_out. */
  readonly outputs: Readonly<Record<ModuleName, number>>;
}

/**
 * The stack of a decoder whose checkpoint has the digest `base`.
 *
 * @example
 * ```ts
 * import { openCheckpoint, stackOf } from "@lembas/lembas";
 *
 * const checkpoint = await openCheckpoint("tests/fixtures/models/llama");
 * const stack = stackOf(await checkpoint.digest(), checkpoint.config);
 * console.log(stack.layers, stack.outputs.q_proj);
 * checkpoint.close();
 * ```
 */
export function stackOf(base: string, config: DecoderConfig): Stack {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim } = config;
  return {
    base,
    layers: config.numLayers,
    inputs: {
      attn_in: hiddenSize,
      attn_out: numHeads * headDim,
      mlp_in: hiddenSize,
      mlp_mid: intermediateSize,
    },
    outputs: {
      q_proj: numHeads * headDim,
      k_proj: numKvHeads * headDim,
      v_proj: numKvHeads * headDim,
      o_proj: hiddenSize,
      gate_proj: intermediateSize,
      up_proj: intermediateSize,
      down_proj: hiddenSize,
    },
  };
}

/** The stack of an encoder: it has no gate. */
export function encoderStack(base: string, config: EncoderConfig): Stack {
  const { hiddenSize: d, intermediateSize, numLayers: layers } = config;
  return {
    base,
    layers,
    inputs: { attn_in: d, attn_out: d, mlp_in: d, mlp_mid: intermediateSize },
    outputs: {
      ...{ q_proj: d, k_proj: d, v_proj: d, o_proj: d },
      ...{ gate_proj: 0, up_proj: intermediateSize, down_proj: d },
    },
  };
}

/** Hugging Face's name of a linear's weight, [d_out, d_in]. */
export function weightName(layer: number, module: ModuleName): string {
  const block = SITE_OF[module].startsWith("attn") ? "self_attn" : "mlp";
  return `model.layers.${layer}.${block}.${module}.weight`;
}

/** The inputs that the modules read, in the order of SITES. */
export function sitesOf(modules: readonly ModuleName[]): SiteName[] {
  const read = new Set(modules.map((module) => SITE_OF[module]));
  return SITES.filter((site) => read.has(site));
}

/** @throws {RangeError} unless it is a whole number from 1 to `max` (64 by default). */
export function checkRank(rank: number, max: number = MAX_RANK): void {
  if (!Number.isInteger(rank) || rank < MIN_RANK || rank > max) {
    throw new RangeError(
      `Cannot use rank: it is a whole number from ${MIN_RANK} to ${max}, current value is ${rank}`,
    );
  }
}

/** @throws {RangeError} unless it is positive and finite. */
export function checkAlpha(alpha: number): void {
  if (!Number.isFinite(alpha) || alpha <= 0) {
    throw new RangeError(`Cannot use alpha: it is a positive number, current value is ${alpha}`);
  }
}

/**
 * The names as modules in the canonical order.
 * @throws {TypeError} for an empty list, an unknown name or a name given twice.
 */
export function parseModules(names: readonly string[]): ModuleName[] {
  const unknown = names.find((name) => !isModule(name));
  if (unknown !== undefined) {
    throw new TypeError(
      `Cannot adapt '${unknown}': the linears of a layer are ${MODULES.join(", ")}`,
    );
  }
  if (names.length === 0 || new Set(names).size < names.length) {
    throw new TypeError(
      `Cannot use modules: each is named once, at least one, current value is [${names}]`,
    );
  }
  return MODULES.filter((module) => names.includes(module));
}

export function isModule(name: string): name is ModuleName {
  return MODULES.some((module) => module === name);
}

/** @throws {TypeError} naming the first element that is NaN or infinite. */
export function checkFinite(what: string, values: Float32Array): void {
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) {
    throw new TypeError(`Cannot use ${what}: element ${at} is ${values[at]}, all must be finite`);
  }
}

/** Layers and widths of the named linears, for error texts and comparisons. */
export function shapeText(
  modules: readonly ModuleName[],
  shape: {
    readonly layers: number;
    readonly inputs: Readonly<Partial<Record<SiteName, number>>>;
    readonly outputs: Readonly<Partial<Record<ModuleName, number>>>;
  },
): string {
  const widths = modules.map((module) =>
    `${module} ${shape.inputs[SITE_OF[module]]}→${shape.outputs[module]}`
  );
  return `${shape.layers} layers of ${widths.join(", ")}`;
}

// ---- digests ----

export type DigestFields = Readonly<Record<string, string | number | readonly string[]>>;

/**
 * The content digest of a core or factor set, so that two machines agree whatever file, dtype or
 * order of fields it came in: SHA-256 (hex) of the fields as JSON with sorted keys and no spaces, a
 * line feed, and the tensors' little-endian float32 bytes in the order given.
 */
export function contentDigest(fields: DigestFields, tensors: readonly Float32Array[]): string {
  const sorted = Object.entries(fields).sort(([a], [b]) => a < b ? -1 : 1);
  const hash = createHash("sha256").update(JSON.stringify(Object.fromEntries(sorted)) + "\n");
  for (const t of tensors) hash.update(new Uint8Array(t.buffer, t.byteOffset, t.byteLength));
  return hash.digest("hex");
}

/** @throws {TypeError} where the text is not a SHA-256 in lower-case hex. */
export function checkDigest(what: string, text: string): void {
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw new TypeError(
      `Cannot use ${what}: a digest has 64 hex digits, current value is ${
        JSON.stringify(text.slice(0, 80))
      }`,
    );
  }
}

/** A digest as people read it: its first twelve digits. */
export function shortDigest(digest: string): string {
  return digest.slice(0, 12);
}
