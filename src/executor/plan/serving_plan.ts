/**
 * Which kernels serve each precision of weights: on the CPU, and on devices that have memory of their
 * own, where every step waits for its weights and W8A8 is missing.
 */
import type {
  GradientKernel,
  IntegerType,
  LinearKernel,
  LoweringPlan,
} from "../../graph/lowering/lowering_context.ts";
import type { FloatType } from "../../util/floats.ts";

/**
 * Precision of the linears. `file`: the integers of the file's own blocks. On the CPU activations,
 * cores, keys and values are float32; elsewhere the device says (`device_floats.ts`).
 */
export type ServingDtype = "int8" | "int4" | "file" | "fp32" | "fp16";

interface Served {
  readonly dtype: ServingDtype;
  readonly maxBatch: number;
}

const UNROUNDED: Pick<LoweringPlan, "linear" | "gradient" | "embedding"> = {
  linear: () => "float32",
  gradient: () => "float32",
  embedding: "float32",
};

/**
 * Kernels of the CPU by dtype. For int8, block-wise kernels are fastest for a single row and W8A8 for
 * batches.
 * @param integers how W8A8 keeps its weights on this processor (`integer_check.ts`)
 * @throws {RangeError} for fp16, of which it has no kernels
 */
export function planOf({ dtype, maxBatch }: Served, integers: IntegerType = "int8"): LoweringPlan {
  switch (dtype) {
    case "fp32":
      return UNROUNDED;
    case "fp16":
      throw new RangeError("Cannot serve fp16 on cpu: it has no float16 kernels, pass int8");
    case "int8": {
      const kernel = maxBatch === 1 ? "nbits8" : "w8a8";
      return { linear: () => kernel, gradient: eightBitsBack, embedding: "int8", integers };
    }
    default:
      return { linear: blocksOf(dtype), gradient: eightBitsBack, embedding: "int8", integers };
  }
}

/** Kernels of another device: blocks of integers, or weights in the activations' type. */
export function devicePlan(
  device: NonNullable<LoweringPlan["device"]>,
  { dtype }: Pick<Served, "dtype">,
  activations: FloatType,
): LoweringPlan {
  const rounded = dtype === "fp32" || dtype === "fp16"
    ? UNROUNDED
    : { ...UNROUNDED, linear: blocksOf(dtype), embedding: "int8" as const };
  return { ...rounded, device, activations };
}

/** Whether a plan's linears may have blocks with offsets. */
export function inBlocks({ linear }: LoweringPlan): boolean {
  return ["stored", "nbits4"].includes(linear("model.layers.0."));
}

function blocksOf(dtype: "int8" | "int4" | "file"): (weight: string) => LinearKernel {
  switch (dtype) {
    case "int8":
      return () => "nbits8";
    case "file":
      return () => "stored";
    case "int4":
      return (weight) => weight.startsWith("model.layers.") ? "nbits4" : "nbits8";
  }
}

/**
 * Kernels of the pullbacks. The output layer's cotangent, p - target, has one large element and
 * thousands of small ones that matter together. Rounded to 8 bits by row they vanish: the gradients
 * of cores for unlikely targets had a cosine of only 0.5 to the exact ones. With 16 bits they stay;
 * all other pullbacks reach 0.99 at 8 bits.
 */
function eightBitsBack(weight: string): GradientKernel {
  return weight === "lm_head.weight" ? "w8a16" : "w8a8";
}
