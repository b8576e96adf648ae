/**
 * What a graphics device does with a step's logits, as ONNX graphs. Sums of probabilities are those of
 * `sampler/graphs.ts` and `sampler/draw.ts`, in the same blocks and the same order.
 */
import { onnxType, OnnxWriter } from "../../graph/lowering/onnx.ts";
import { BELOW_ONE } from "../sampler/draw.ts";
import { SUM_BLOCK } from "../sampler/graphs.ts";
import { STEP_ROWS, STEP_SIZE } from "./decode_model.ts";

/**
 * Over `logits` [n, V]:
 *
 * - `best` → `picked` [n, 2]: the most likely token, of equal ones the first, and its logit.
 * - `drawn`: `given` [n, 3]: 1 over the temperature, a uniform number, the row's number; where the
 *   first is 0, the row's token is its best → `picked` [n, 2], as before.
 * - `fed`: the same, and `step` [4, n], a decode step's small inputs (`decode_model.ts`) → `next`
 *   [4, n], those of the step that follows.
 * - `most`: `rows` [m], of which the `count` largest logits are wanted, `inverse` temperature [m, 1] →
 *   `found` [m, 2·count + 2]: logits by falling size, their tokens, and the sums over the row of
 *   exp(logit · inverse - the largest of these) and of the same without temperature.
 * - `rows`: `rows` [m] → `logits.of` [m, V].
 */
export type DeviceGraph =
  | { readonly kind: "best" }
  | { readonly kind: "drawn" | "fed"; readonly vocabSize: number }
  | { readonly kind: "most"; readonly vocabSize: number; readonly count: number }
  | { readonly kind: "rows" };

/** The serialised model. */
export function buildDeviceGraph(graph: DeviceGraph): Uint8Array {
  const builder = new Builder();
  switch (graph.kind) {
    case "best":
      return builder.best();
    case "drawn":
      return builder.drawn(graph.vocabSize);
    case "fed":
      return builder.fed(graph.vocabSize);
    case "most":
      return builder.most(graph.vocabSize, graph.count);
    case "rows":
      return builder.rows();
  }
}

const KEPT = { keepdims: 1 };
/** What a step adds to the rows of `STEP` behind the ids. */
const GROWN = Int32Array.from({ length: STEP_SIZE - 1 }, (_, i) => {
  const row = i + 1;
  return row === STEP_ROWS.lengths || row === STEP_ROWS.total ? 1 : 0;
});

class Builder {
  readonly #writer = new OnnxWriter();
  #count = 0;

  constructor() {
    this.#writer.input("logits", "float32", ["n", "vocab"]);
  }

  best(): Uint8Array {
    return this.#picked("best", this.#best(), this.#largest("logits"));
  }

  drawn(vocabSize: number): Uint8Array {
    const token = this.#drawn(vocabSize);
    return this.#picked("drawn", token, this.#taken("logits", this.#flat(token, vocabSize)));
  }

  fed(vocabSize: number): Uint8Array {
    const writer = this.#writer;
    const token = this.#drawn(vocabSize);
    const step = writer.input("step", "int32", [STEP_SIZE, "n"]);
    const ids = this.#op("Reshape", [this.#cast(token, "int32"), this.#int64([1, -1])]);
    const bounds = [[STEP_ROWS.ids + 1], [STEP_SIZE], [0]].map((values) => this.#int64(values));
    const rest = this.#op("Slice", [step, ...bounds]);
    const grown = writer.constant("step.grown", "int32", [STEP_SIZE - 1, 1], GROWN);
    writer.node("Concat", [ids, this.#op("Add", [rest, grown])], "next", {
      attributes: { axis: 0 },
    });
    writer.output("next", "int32", [STEP_SIZE, "n"]);
    return this.#picked("fed", token, this.#taken("logits", this.#flat(token, vocabSize)));
  }

  /** Tokens [n, 1]. */
  #drawn(vocabSize: number): string {
    const writer = this.#writer;
    const given = writer.input("given", "float32", ["n", 3]);
    const columns = ["inverse", "uniform", "row"];
    writer.nodes("Split", [given, this.#int64([1, 1, 1])], columns, { attributes: { axis: 1 } });
    const probabilities = this.#op("Softmax", [this.#op("Mul", ["logits", "inverse"])], {
      axis: 1,
    });
    const missing = (SUM_BLOCK - vocabSize % SUM_BLOCK) % SUM_BLOCK;
    const padded = missing === 0
      ? probabilities
      : this.#op("Pad", [probabilities, this.#int64([0, 0, 0, missing]), this.#float(0)]);
    const blocks = Math.ceil(vocabSize / SUM_BLOCK);
    const apart = this.#op("Reshape", [padded, this.#int64([-1, SUM_BLOCK])]);
    const sums = this.#op("Reshape", [
      this.#sum(apart),
      this.#int64([-1, blocks]),
    ]);
    const running = this.#running(sums);
    const total = this.#last(running, blocks);
    const below = this.#op("Min", ["uniform", this.#float(BELOW_ONE)]);
    const target = this.#op("Mul", [below, total]);
    const block = this.#passed(running, target, blocks);
    const at = this.#flat(block, blocks);
    const before = this.#op("Sub", [this.#taken(running, at), this.#taken(sums, at)]);
    const past = this.#op("Max", [this.#op("Sub", [target, before]), this.#float(0)]);
    const inside = this.#op("Gather", [apart, this.#op("Reshape", [at, this.#int64([-1])])]);
    const within = this.#running(inside);
    const sum = this.#op("Mul", [this.#last(within, SUM_BLOCK), this.#float(BELOW_ONE)]);
    const index = this.#passed(within, this.#op("Min", [past, sum]), SUM_BLOCK);
    const start = this.#op("Mul", [block, this.#float(SUM_BLOCK)]);
    const greedy = this.#op("Equal", ["inverse", this.#float(0)]);
    return this.#op("Where", [greedy, this.#best(), this.#op("Add", [start, index])]);
  }

  most(vocabSize: number, count: number): Uint8Array {
    const writer = this.#writer;
    const own = this.#op("Gather", ["logits", writer.input("rows", "int32", ["m"])]);
    const inverse = writer.input("inverse", "float32", ["m", 1]);
    const k = this.#int64([count]);
    writer.nodes("TopK", [own, k], ["values", "indices"], { attributes: { axis: 1 } });
    const most = this.#largest(own);
    const masses = [
      this.#mass(this.#op("Mul", [own, inverse]), this.#op("Mul", [most, inverse])),
      this.#mass(own, most),
    ];
    const parts = ["values", this.#cast("indices", "float32"), ...masses];
    writer.node("Concat", parts, "found", { attributes: { axis: 1 } });
    writer.output("found", "float32", ["m", 2 * count + 2]);
    return writer.finish(`most ${count} of ${vocabSize}`);
  }

  rows(): Uint8Array {
    const writer = this.#writer;
    writer.node("Gather", ["logits", writer.input("rows", "int32", ["m"])], "logits.of");
    writer.output("logits.of", "float32", ["m", "vocab"]);
    return writer.finish("rows");
  }

  #picked(name: string, token: string, logit: string): Uint8Array {
    const writer = this.#writer;
    writer.node("Concat", [token, logit], "picked", { attributes: { axis: 1 } });
    writer.output("picked", "float32", ["n", 2]);
    return writer.finish(name);
  }

  /** [n, 1]; as every index here a float32, which holds whole numbers up to 2^24. */
  #best(): string {
    return this.#cast(this.#op("ArgMax", ["logits"], { axis: 1, ...KEPT }), "float32");
  }

  #largest(rows: string): string {
    return this.#op("ReduceMax", [rows, this.#int64([1])], KEPT);
  }

  #sum(rows: string): string {
    return this.#op("ReduceSum", [rows, this.#int64([1])], KEPT);
  }

  #mass(scaled: string, most: string): string {
    return this.#sum(this.#op("Exp", [this.#op("Sub", [scaled, most])]));
  }

  #running(rows: string): string {
    const axis = this.#writer.constant("int32.1", "int32", [], Int32Array.of(1));
    return this.#op("CumSum", [rows, axis]);
  }

  #last(rows: string, width: number): string {
    const bounds = [[width - 1], [width], [1]].map((values) => this.#int64(values));
    return this.#op("Slice", [rows, ...bounds]);
  }

  /** The first place at which a running sum is beyond `target`; the last one where none is. */
  #passed(running: string, target: string, width: number): string {
    const reached = this.#cast(this.#op("LessOrEqual", [running, target]), "float32");
    return this.#op("Min", [this.#sum(reached), this.#float(width - 1)]);
  }

  /** Places [n, 1] of a column of each row in rows of `width` one after the other. */
  #flat(column: string, width: number): string {
    const size = this.#writer.constant(`int32.${width}`, "int32", [], Int32Array.of(width));
    const start = this.#op("Mul", [this.#cast("row", "int32"), size]);
    return this.#op("Add", [start, this.#cast(column, "int32")]);
  }

  #taken(rows: string, flat: string): string {
    return this.#op("Gather", [this.#op("Reshape", [rows, this.#int64([-1])]), flat]);
  }

  #cast(from: string, dtype: "float32" | "int32"): string {
    return this.#op("Cast", [from], { to: onnxType(dtype) });
  }

  #op(
    op: string,
    inputs: readonly string[],
    attributes: Record<string, number> = {},
  ): string {
    return this.#writer.node(op, inputs, `v${this.#count++}`, { attributes });
  }

  #float(value: number): string {
    return this.#writer.constant(`float.${value}`, "float32", [], Float32Array.of(value));
  }

  #int64(values: readonly number[]): string {
    const data = BigInt64Array.from(values, BigInt);
    return this.#writer.constant(`int64.${values.join(".")}`, "int64", [values.length], data);
  }
}
