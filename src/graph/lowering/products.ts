/**
 * Products with a transposed operand, by device. ONNX Runtime's CPU and CUDA kernels have one that
 * reads the operand as it lies; WebGPU has it for matrices alone (Gemm), and transposes stacks of them.
 */
import type { LoweringContext, LoweringPlan } from "./lowering_context.ts";
import { type Attribute, MICROSOFT } from "./onnx.ts";

/** A product alpha · op(A) · op(B), where op transposes the last two dimensions of one. */
export interface ProductForm {
  /** Dimensions of both operands. */
  readonly rank: 2 | 3 | 4;
  readonly transposed: "first" | "second" | "none";
  /** alpha; default 1. */
  readonly scale?: number;
}

/** Names of A and B. */
type Operands = readonly [string, string];

/** Emits a product. */
export function emitProduct(
  context: LoweringContext,
  operands: Operands,
  form: ProductForm,
  out: string,
): void {
  PRODUCTS[context.plan.device ?? "cpu"](context, operands, form, out);
}

const PRODUCTS: {
  readonly [K in NonNullable<LoweringPlan["device"]>]: typeof emitProduct;
} = {
  cpu: fusedProduct,
  cuda: fusedProduct,

  webgpu(context, [a, b], form, out) {
    const { writer } = context;
    if (form.rank === 2) {
      return void writer.node("Gemm", [a, b], out, { attributes: attributesOf(form) });
    }
    const { transposed, scale = 1 } = form;
    const turned = (name: string, which: "first" | "second") =>
      which === transposed ? turn(context, name, form.rank, `${out}.${which}`) : name;
    const product = [turned(a, "first"), turned(b, "second")];
    if (scale === 1) return void writer.node("MatMul", product, out);
    writer.node("MatMul", product, `${out}.unscaled`);
    const factor = writer.constant(`float.${scale}`, "float32", [], new Float32Array([scale]));
    writer.node("Mul", [`${out}.unscaled`, factor], out);
  },
};

function fusedProduct(
  context: LoweringContext,
  operands: Operands,
  form: ProductForm,
  out: string,
): void {
  const attributes = attributesOf(form);
  context.writer.node("FusedMatMul", operands, out, { domain: MICROSOFT, attributes });
}

function attributesOf({ transposed, scale }: ProductForm): Readonly<Record<string, Attribute>> {
  return {
    ...(transposed === "first" ? { transA: 1 } : {}),
    ...(transposed === "second" ? { transB: 1 } : {}),
    ...(scale === undefined ? {} : { alpha: { float: scale } }),
  };
}

/** A stack of matrices, each transposed. */
function turn(context: LoweringContext, name: string, rank: number, to: string): string {
  const axes = Array.from({ length: rank }, (_, axis) => axis);
  const perm = [...axes.slice(0, -2), rank - 1, rank - 2];
  return context.writer.node("Transpose", [name], to, { attributes: { perm } });
}
