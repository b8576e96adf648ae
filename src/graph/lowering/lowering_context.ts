/**
 * What lowering rules work with: the plan, the writer, names of values, weights in device layout,
 * and by-products that several rules share.
 */
import type { ParameterSource } from "../graph.ts";
import type { OpName, Ops, Value } from "../ops.ts";
import { OnnxWriter, type Weight } from "./onnx.ts";
import type { BlockSource } from "../quantise.ts";
import type { DType } from "../../runtime/device.ts";
import { encodeFloats, type FloatType } from "../../util/floats.ts";

/** Kernels of a linear, described in `kernels.ts`. */
export type LinearKernel = "float32" | "float32-shared" | "w8a8" | "nbits8" | "nbits4" | "stored";

/**
 * Kernels of a linear's pullback, `dy · W`. int8 has a second copy of W, scaled per input channel;
 * `w8a16` rounds what dy's first 8 bits left to 8 more, and multiplies twice.
 */
export type GradientKernel = "float32" | "w8a8" | "w8a16";

/** Element types of W8A8's weights. */
export type IntegerType = "int8" | "uint8";

/** How a graph is to be computed. */
export interface LoweringPlan {
  /** Whose kernels it is lowered to; default: the CPU's. Of a linear's only the CPU has W8A8. */
  readonly device?: "cpu" | "webgpu" | "cuda";
  /**
   * The type of activations, keys, values and cores, and of weights that are no integers; default:
   * float32. A graph's outputs are float32, whatever it is. For serving alone: gradients want float32.
   * Trap: kernels sum norms in float32, but WebGPU's sum products in float16 (4,096 of 1.002 are 4,096,
   * not 4,104).
   */
  readonly activations?: FloatType;
  /** The kernel of each linear, by the name of its first weight. */
  readonly linear: (weight: string) => LinearKernel;
  /** The kernel of each linear's pullback, likewise. */
  readonly gradient: (weight: string) => GradientKernel;
  /**
   * Where the offsets of blocks are: with the blocks, which takes weights that are mapped from files
   * (`models/block_sums.ts`), or in a product of their own.
   */
  readonly offsets?: "with blocks" | "apart";
  /**
   * How W8A8 keeps its weights: int8 (the default), or as uint8 around 128, for processors whose
   * u8 × s8 products saturate (`executor/integer_check.ts`). The integers, and so the results, are
   * the same.
   */
  readonly integers?: IntegerType;
  /** Rows as they are, in the activations' type, or int8 in blocks of 32 with a scale each. */
  readonly embedding: "float32" | "int8";
}

/** What rules work with: the writer, names of values, and shared by-products. */
export class LoweringContext {
  readonly writer = new OnnxWriter();
  readonly weights = new Map<string, Weight>();
  readonly #names = new Map<number, string>();

  constructor(
    readonly plan: LoweringPlan,
    readonly parameters: ParameterSource & Partial<BlockSource>,
    /** How often the graph's nodes and its caller read a value, by its id. */
    readonly uses: ReadonlyMap<number, number>,
  ) {}

  /** The ONNX name of a value. */
  name(value: Value): string {
    return this.#names.get(value.id) ?? value.name;
  }

  rename(value: Value, name: string): void {
    this.#names.set(value.id, name);
  }

  /** A weight outside the model. `make` is called where it is nowhere yet, and keeps nothing. */
  weight(name: string, dtype: DType, shape: readonly number[], make: Weight["make"]): string {
    this.weights.set(name, { dtype, shape, make });
    return this.writer.external(name, dtype, shape);
  }

  /** The type of a graph's float32 values. */
  get floats(): FloatType {
    return this.plan.activations ?? "float32";
  }

  /** What a value's type is in the model. */
  typeOf(dtype: DType): DType {
    return dtype === "float32" ? this.floats : dtype;
  }

  /** A weight of float32 numbers, in the activations' type. */
  floatWeight(
    name: string,
    shape: readonly number[],
    make: () => Float32Array | Promise<Float32Array>,
  ): string {
    const { floats } = this;
    if (floats === "float32") return this.weight(name, floats, shape, make);
    const encoded = async () => encodeFloats(floats, await make());
    return this.weight(`${name}:${floats}`, floats, shape, encoded);
  }

  /** A parameter as it is, in the activations' type; a value of the graph by its name. */
  parameter(value: Value): string {
    if (value.kind !== "parameter") return this.name(value);
    const shape = value.shape.map(Number);
    return this.floatWeight(value.name, shape, () => this.parameters.read(value.name));
  }

  /** Emits what `key` names once, and returns its name ever after. */
  once(key: string, emit: (name: string) => void): string {
    if (!this.#emitted.has(key)) {
      this.#emitted.add(key);
      emit(key);
    }
    return key;
  }
  readonly #emitted = new Set<string>();

  int64(name: string, data: readonly number[], shape: readonly number[] = [data.length]): string {
    return this.writer.constant(name, "int64", shape, BigInt64Array.from(data, BigInt));
  }
}

/** Emits what computes one operation. */
export type Rule<K extends OpName> = (context: LoweringContext, args: Ops[K], out: string) => void;

/** The shape [batch, time, ...rest], computed once a step. */
export function gridShape(
  context: LoweringContext,
  grid: Value,
  ...rest: readonly number[]
): string {
  return context.once(`shape.grid.${rest.join(".")}`, (name) => {
    const inputs = [context.name(grid), context.int64(`int64.${rest.join(".")}`, rest)];
    context.writer.node("Concat", inputs, name, { attributes: { axis: 0 } });
  });
}
