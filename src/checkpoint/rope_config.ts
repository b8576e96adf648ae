/**
 * The rotary fields of a `config.json`, in both spellings: transformers 5's `rope_parameters` and
 * the older `rope_theta` with `rope_scaling`. It computes no table.
 */

import type { Rope, RopeScaling } from "./checkpoint.ts";
import type { Fields } from "./fields.ts";

const DEFAULT_THETA = 10_000;

/** What else a rotation depends on. */
interface RopeGiven {
  readonly maxPositions: number;
  readonly headDim: number;
  /** Where the fields have no `rope_theta`. */
  readonly theta?: number | undefined;
}

/** `rope_parameters`, or the older `rope_scaling`. */
export function ropeFields(config: Fields): Fields | undefined {
  return config.optionalObject("rope_scaling") ?? config.optionalObject("rope_parameters");
}

/**
 * The rotation that an object of `config.json` describes, as transformers' `modeling_rope_utils` reads
 * it; what it lacks is looked for beside it.
 *
 * @throws {TypeError} for a scaling that is not supported, by its name
 */
export function ropeOf(
  config: Fields,
  rope: Fields | undefined,
  { maxPositions, headDim, theta = DEFAULT_THETA }: RopeGiven,
): Rope {
  return {
    theta: rope?.optionalNumber("rope_theta") ?? config.optionalNumber("rope_theta") ?? theta,
    scaling: scalingOf(config, rope, maxPositions),
    turned: headDim,
    interleaved: false,
  };
}

/** A rotation of whole heads by this base. */
export function unscaled(theta: number, headDim: number): Rope {
  return { theta, scaling: { type: "none" }, turned: headDim, interleaved: false };
}

/** Which share of a head's dimensions turns. */
export function partialRotary(config: Fields, other = 1): number {
  return ropeFields(config)?.optionalNumber("partial_rotary_factor") ??
    config.optionalNumber("partial_rotary_factor") ?? other;
}

function scalingOf(config: Fields, rope: Fields | undefined, maxPositions: number): RopeScaling {
  if (rope === undefined) return { type: "none" };
  const type = rope.optionalText("rope_type") ?? rope.optionalText("type") ?? "default";
  const originalMaxPositions = config.optionalCount("original_max_position_embeddings") ??
    rope.optionalCount("original_max_position_embeddings") ?? maxPositions;
  switch (type) {
    case "default":
      return { type: "none" };
    case "linear":
      return { type, factor: rope.number("factor") };
    case "llama3":
      return {
        type,
        factor: rope.number("factor"),
        lowFreqFactor: rope.number("low_freq_factor"),
        highFreqFactor: rope.number("high_freq_factor"),
        originalMaxPositions,
      };
    case "yarn":
      return yarn(rope, maxPositions, originalMaxPositions);
    case "longrope":
    case "su":
      return longRope(rope, maxPositions, originalMaxPositions);
    default:
      throw new TypeError(
        `Cannot load the model: RoPE scaling '${type}' is not supported, ` +
          `supported are default, linear, llama3, yarn, longrope`,
      );
  }
}

function yarn(rope: Fields, maxPositions: number, originalMaxPositions: number): RopeScaling {
  const factor = rope.optionalNumber("factor") ?? maxPositions / originalMaxPositions;
  return {
    type: "yarn",
    factor,
    originalMaxPositions,
    betaFast: rope.optionalNumber("beta_fast") || 32,
    betaSlow: rope.optionalNumber("beta_slow") || 1,
    attentionFactor: rope.optionalNumber("attention_factor") ?? attentionFactor(rope, factor),
    truncate: rope.optionalFlag("truncate") ?? true,
  };
}

function longRope(rope: Fields, maxPositions: number, originalMaxPositions: number): RopeScaling {
  const factor = rope.optionalNumber("factor") ?? maxPositions / originalMaxPositions;
  const bend = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalMaxPositions));
  return {
    type: "longrope",
    short: rope.numbers("short_factor"),
    long: rope.numbers("long_factor"),
    originalMaxPositions,
    attentionFactor: rope.optionalNumber("attention_factor") ?? bend,
  };
}

function attentionFactor(rope: Fields, factor: number): number {
  const scale = rope.optionalNumber("mscale") ?? 0;
  const allDimensions = rope.optionalNumber("mscale_all_dim") ?? 0;
  if (scale === 0 || allDimensions === 0) return yarnScale(factor, 1);
  return yarnScale(factor, scale) / yarnScale(factor, allDimensions);
}

/** 0.1 · scale · ln(factor) + 1 (YaRN, arXiv 2309.00071, section 3.4); 1 where nothing is stretched. */
export function yarnScale(factor: number, scale: number): number {
  return factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1;
}
