/**
 * The sampler's work over whole rows of logits, as ONNX graphs. Draws depend on the last bit of
 * every sum here: an operator that adds up in another order draws other tokens for the same seed.
 *
 * A token is drawn by inverting the cumulative distribution at one uniform number: sums of blocks
 * first, then the sums within one block, so that rounding to float32 does not shift the draw.
 */
import { onnxType, OnnxWriter } from "../../graph/lowering/onnx.ts";

/** Width of the blocks whose largest logits are told; any block of the buffer, across rows too. */
export const BOUND_BLOCK = 128;
/** Width of the blocks in which the distribution is summed. */
export const SUM_BLOCK = 256;

/**
 * - `bounds`: `blocks` [b, 128] → `bounds` [b], the largest of each block.
 * - `mass`: `logits` [n, V], `inverse` temperature [n, 1] (left out where `temperature` is "one"),
 *   `most` [n, 1], the largest logit times that → `exps` [n, V], `sum` [n, 1].
 * - `whole`: `logits` [n, width], `inverse` as before, `uniform` [n, 1] → `block` and `offset`
 *   [n, 1] of the token drawn.
 * - `few`: `logits` [n, w], scaled, `-Infinity` where none is; `places` [n, w] of each in rows of
 *   `shape` = [n, m], whole blocks; `uniform` [n, 1] → `block` and `offset` in these rows.
 */
export type SamplerGraph =
  | { readonly kind: "bounds" }
  | { readonly kind: "mass"; readonly width: number; readonly temperature: Temperature }
  | { readonly kind: "whole"; readonly width: number; readonly temperature: Temperature }
  | { readonly kind: "few" };

/** "one": no row needs its logits divided. */
export type Temperature = "one" | "any";

/** The serialised model. */
export function buildSampler(graph: SamplerGraph): Uint8Array {
  const builder = new SamplerBuilder();
  switch (graph.kind) {
    case "bounds":
      return builder.bounds();
    case "mass":
      return builder.mass(graph.width, graph.temperature);
    case "whole":
      return builder.whole(graph.width, graph.temperature);
    case "few":
      return builder.few();
  }
}

class SamplerBuilder {
  readonly #writer = new OnnxWriter();
  #count = 0;

  bounds(): Uint8Array {
    const writer = this.#writer;
    writer.input("blocks", "float32", ["b", BOUND_BLOCK]);
    writer.node("ReduceMax", ["blocks", this.#int64([1])], "bounds", {
      attributes: { keepdims: 0 },
    });
    writer.output("bounds", "float32", ["b"]);
    return writer.finish("bounds");
  }

  mass(width: number, temperature: Temperature): Uint8Array {
    const writer = this.#writer;
    writer.input("logits", "float32", ["n", width]);
    writer.input("most", "float32", ["n", 1]);
    const scaled = this.#scaled(temperature);
    writer.node("Exp", [this.#op("Sub", [scaled, "most"])], "exps");
    writer.node("ReduceSum", ["exps", this.#int64([1])], "sum", { attributes: { keepdims: 1 } });
    writer.output("exps", "float32", ["n", width]);
    writer.output("sum", "float32", ["n", 1]);
    return writer.finish("mass");
  }

  whole(width: number, temperature: Temperature): Uint8Array {
    const writer = this.#writer;
    writer.input("logits", "float32", ["n", width]);
    const scaled = this.#scaled(temperature);
    this.#draw(this.#blocks(this.#op("Softmax", [scaled], { axis: 1 }), width));
    return writer.finish("whole");
  }

  few(): Uint8Array {
    const writer = this.#writer;
    writer.input("logits", "float32", ["n", "w"]);
    writer.input("places", "int32", ["n", "w"]);
    writer.input("shape", "int64", [2]);
    const probabilities = this.#op("Softmax", ["logits"], { axis: 1 });
    const room = this.#op("Expand", [this.#float(0), "shape"]);
    const placed = this.#op("ScatterElements", [room, "places", probabilities], { axis: 1 });
    this.#draw(this.#op("Reshape", [placed, this.#int64([0, -1, SUM_BLOCK])]));
    return writer.finish("few");
  }

  #scaled(temperature: Temperature): string {
    if (temperature === "one") return "logits";
    return this.#op("Mul", ["logits", this.#writer.input("inverse", "float32", ["n", 1])]);
  }

  /** The token at which the running sum of `grid` [n, blocks, 256] passes `uniform`. */
  #draw(grid: string): void {
    const writer = this.#writer;
    writer.input("uniform", "float32", ["n", 1]);
    const sums = this.#op("ReduceSum", [grid, this.#int64([2])], { keepdims: 0 });
    const running = this.#op("CumSum", [sums, this.#scalar(1)]);
    const target = this.#op("Mul", ["uniform", this.#last(running)]);
    this.#passed(running, target, "block");
    const before = this.#op("Sub", [
      this.#op("GatherElements", [running, "block"], { axis: 1 }),
      this.#op("GatherElements", [sums, "block"], { axis: 1 }),
    ]);
    const inside = this.#op("GatherND", [grid, "block"], { "batch_dims": 1 });
    const inner = this.#op("CumSum", [inside, this.#scalar(1)]);
    // All sums are rounded: the target must stay below the block's own, and not before its first.
    const limit = this.#op("Mul", [this.#last(inner), this.#float(1 - 2 ** -24)]);
    const past = this.#op("Max", [this.#op("Sub", [target, before]), this.#float(0)]);
    this.#passed(inner, this.#op("Min", [past, limit]), "offset");
    writer.output("block", "int64", ["n", 1]);
    writer.output("offset", "int64", ["n", 1]);
  }

  /** How many running sums are at most the target: the index of the first one above it. */
  #passed(running: string, target: string, out: string): void {
    const passed = this.#op("Cast", [this.#op("LessOrEqual", [running, target])], {
      to: onnxType("int64"),
    });
    // A target below the last sum is passed before the last; the bound is for sums that are NaN.
    const count = this.#op("ReduceSum", [passed, this.#int64([1])], { keepdims: 1 });
    const size = this.#op("Shape", [running], { start: 1 });
    this.#writer.node("Min", [count, this.#op("Sub", [size, this.#int64([1])])], out);
  }

  #last(running: string): string {
    const bounds = [this.#int64([-1]), this.#int64([2 ** 31]), this.#int64([1])];
    return this.#op("Slice", [running, ...bounds]);
  }

  /** [n, width] as [n, blocks, 256], padded with zeros. */
  #blocks(values: string, width: number): string {
    const missing = (SUM_BLOCK - width % SUM_BLOCK) % SUM_BLOCK;
    const padded = missing === 0
      ? values
      : this.#op("Pad", [values, this.#int64([0, 0, 0, missing]), this.#float(0)]);
    return this.#op("Reshape", [padded, this.#int64([0, -1, SUM_BLOCK])]);
  }

  #op(
    op: string,
    inputs: readonly string[],
    attributes: Record<string, number | string> = {},
  ): string {
    return this.#writer.node(op, inputs, `v${this.#count++}`, { attributes });
  }

  #float(value: number): string {
    return this.#writer.constant(`float.${value}`, "float32", [], Float32Array.of(value));
  }

  #scalar(value: number): string {
    return this.#writer.constant(`scalar.${value}`, "int64", [], BigInt64Array.of(BigInt(value)));
  }

  #int64(values: readonly number[]): string {
    const data = BigInt64Array.from(values, BigInt);
    return this.#writer.constant(`int64.${values.join(".")}`, "int64", [values.length], data);
  }
}
