/**
 * The sampler's sums over probabilities, as ONNX graphs. Draws depend on the last bit of each: an
 * operator that adds up in another order draws other tokens for the same seed.
 */
import { OnnxWriter } from "../../graph/lowering/onnx.ts";

/** Width of the blocks whose largest logits are told; any block of the buffer, across rows too. */
export const BOUND_BLOCK = 128;
/** Width of the blocks in which the distribution is summed. */
export const SUM_BLOCK = 256;

/**
 * - `bounds`: `blocks` [b, 128] → `bounds` [b], the largest of each block.
 * - `mass`: `logits` [n, V], `inverse` temperature [n, 1] (left out where `temperature` is "one"),
 *   `most` [n, 1], the largest logit times that → `exps` [n, V], `sum` [n, 1].
 * - `whole`: `logits` [n, width], `inverse` as before, `allowed` [n, width], 0 or 1 (where `mask` is
 *   "some") → `probabilities` [n, width] and their `sums` by blocks of 256 [n, blocks].
 * - `few`: `logits` [n, w], scaled, `-Infinity` where none is; `places` [n, w] of each in rows of
 *   `shape` = [n, m], whole blocks → `probabilities` [n, w], and `sums` of these blocks [n, m / 256].
 */
export type SamplerGraph =
  | { readonly kind: "bounds" }
  | { readonly kind: "mass"; readonly width: number; readonly temperature: Temperature }
  | {
    readonly kind: "whole";
    readonly width: number;
    readonly temperature: Temperature;
    readonly mask: "none" | "some";
  }
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
      return builder.whole(graph);
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

  whole({ width, temperature, mask }: SamplerGraph & { readonly kind: "whole" }): Uint8Array {
    const writer = this.#writer;
    writer.input("logits", "float32", ["n", width]);
    const scaled = this.#scaled(temperature);
    const softmax = { attributes: { axis: 1 } };
    if (mask === "none") writer.node("Softmax", [scaled], "probabilities", softmax);
    else {
      const allowed = writer.input("allowed", "float32", ["n", width]);
      const all = writer.node("Softmax", [scaled], "all", softmax);
      writer.node("Mul", [all, allowed], "probabilities");
    }
    const missing = (SUM_BLOCK - width % SUM_BLOCK) % SUM_BLOCK;
    const padded = missing === 0
      ? "probabilities"
      : this.#op("Pad", ["probabilities", this.#int64([0, 0, 0, missing]), this.#zero()]);
    this.#sums(padded);
    writer.output("probabilities", "float32", ["n", width]);
    return writer.finish("whole");
  }

  few(): Uint8Array {
    const writer = this.#writer;
    writer.input("logits", "float32", ["n", "w"]);
    writer.input("places", "int32", ["n", "w"]);
    writer.input("shape", "int64", [2]);
    writer.node("Softmax", ["logits"], "probabilities", { attributes: { axis: 1 } });
    const room = this.#op("Expand", [this.#zero(), "shape"]);
    this.#sums(this.#op("ScatterElements", [room, "places", "probabilities"], { axis: 1 }));
    writer.output("probabilities", "float32", ["n", "w"]);
    return writer.finish("few");
  }

  #sums(rows: string): void {
    const grid = this.#op("Reshape", [rows, this.#int64([0, -1, SUM_BLOCK])]);
    this.#writer.node("ReduceSum", [grid, this.#int64([2])], "sums", {
      attributes: { keepdims: 0 },
    });
    this.#writer.output("sums", "float32", ["n", "blocks"]);
  }

  #scaled(temperature: Temperature): string {
    if (temperature === "one") return "logits";
    return this.#op("Mul", ["logits", this.#writer.input("inverse", "float32", ["n", 1])]);
  }

  #op(
    op: string,
    inputs: readonly string[],
    attributes: Record<string, number | string> = {},
  ): string {
    return this.#writer.node(op, inputs, `v${this.#count++}`, { attributes });
  }

  #zero(): string {
    return this.#writer.constant("zero", "float32", [], new Float32Array(1));
  }

  #int64(values: readonly number[]): string {
    const data = BigInt64Array.from(values, BigInt);
    return this.#writer.constant(`int64.${values.join(".")}`, "int64", [values.length], data);
  }
}
