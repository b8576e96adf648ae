/**
 * Graphs of the sampler that drew from whole rows. A token is drawn by inverting the cumulative
 * distribution at one uniform number: sums of blocks first, then the sums within one block. Top-k,
 * top-p and min-p are thresholds on the logit.
 */
import { onnxType, OnnxWriter } from "../../../src/graph/lowering/onnx.ts";

/** What a sampler graph can do; a row that does not want some of it passes neutral numbers. */
export type SamplerFeatures =
  | { readonly kind: "greedy" }
  | {
    readonly kind: "general";
    readonly filter: boolean;
    readonly adjust: boolean;
    readonly mask: boolean;
    readonly logprobs: boolean;
  };

/** Width of the blocks in which the distribution is summed. */
const BLOCK = 256;

/** The serialised model for a vocabulary and a set of features. */
export function buildSampler(vocabSize: number, features: SamplerFeatures): Uint8Array {
  const builder = new SamplerBuilder(vocabSize);
  if (features.kind === "greedy") builder.greedy();
  else builder.general(features);
  return builder.finish();
}

class SamplerBuilder {
  readonly #writer = new OnnxWriter();
  readonly #vocabSize: number;
  #count = 0;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
    this.#writer.input("logits", "float32", ["n", vocabSize]);
  }

  finish(): Uint8Array {
    return this.#writer.finish("sampler");
  }

  greedy(): void {
    this.#argMax("logits", "token");
    this.#writer.output("token", "int64", ["n"]);
  }

  general(features: SamplerFeatures & { readonly kind: "general" }): void {
    const writer = this.#writer;
    writer.input("rows", "int32", ["r"]);
    writer.input("inverse", "float32", ["r", 1]);
    writer.input("uniform", "float32", ["r", 1]);
    const raw = this.#op("Gather", ["logits", "rows"]);
    const adjusted = features.adjust ? this.#adjust(raw) : raw;
    const allowed = features.mask ? this.#mask(adjusted) : adjusted;
    const scaled = this.#op("Mul", [allowed, "inverse"]);
    const kept = features.filter ? this.#filter(scaled) : scaled;
    this.#argMax(allowed, "greedy");
    this.#draw(this.#op("Softmax", [kept], { axis: 1 }), "drawn");
    writer.output("greedy", "int64", ["r"]);
    writer.output("drawn", "int64", ["r"]);
    if (features.logprobs) this.#logprobs(raw);
  }

  /**
   * At a few ids: the repetition penalty (arXiv 1909.05858, as in transformers), then an addition.
   */
  #adjust(logits: string): string {
    const writer = this.#writer;
    writer.input("ids", "int64", ["r", "a"]);
    writer.input("delta", "float32", ["r", "a"]);
    writer.input("repetition", "float32", ["r", "a"]);
    const old = this.#op("GatherElements", [logits, "ids"], { axis: 1 });
    const positive = this.#op("Greater", [old, this.#float(0)]);
    const penalised = this.#op("Where", [
      positive,
      this.#op("Div", [old, "repetition"]),
      this.#op("Mul", [old, "repetition"]),
    ]);
    const changed = this.#op("Add", [penalised, "delta"]);
    // Added as a difference, so that padding (id 0, no change) meets a real change of id 0 safely.
    const change = this.#op("Sub", [changed, old]);
    return this.#op("ScatterElements", [logits, "ids", change], { axis: 1, reduction: "add" });
  }

  /** Sets tokens whose bit is 0 (32 a word, least significant bit first) to -infinity. */
  #mask(logits: string): string {
    const writer = this.#writer;
    const words = Math.ceil(this.#vocabSize / 32);
    writer.input("mask", "int32", ["r", words]);
    const bits = Int32Array.from({ length: 32 }, (_, i) => 1 << i);
    const powers = writer.constant("powers", "int32", [32], bits);
    const word = this.#op("Unsqueeze", ["mask", this.#int64([2])]);
    const bit = this.#op("BitwiseAnd", [word, powers]);
    const zero = writer.constant("int32.0", "int32", [], new Int32Array(1));
    const wide = this.#op("Reshape", [bit, this.#int64([-1, words * 32])]);
    const cut = words * 32 === this.#vocabSize ? wide : this.#op("Slice", [
      wide,
      this.#int64([0]),
      this.#int64([this.#vocabSize]),
      this.#int64([1]),
    ]);
    return this.#op("Where", [this.#op("Equal", [cut, zero]), this.#float(-Infinity), logits]);
  }

  /** Sets tokens outside top-k, top-p and min-p to -infinity. Output `covered`: see `#nucleus`. */
  #filter(logits: string): string {
    const writer = this.#writer;
    writer.input("candidates", "int64", [1]);
    writer.input("last", "int64", ["r", 1]);
    writer.input("topP", "float32", ["r", 1]);
    writer.input("logMinP", "float32", ["r", 1]);
    const [values] = this.#ops("TopK", [logits, "candidates"], 2, { axis: 1 });
    const most = this.#op("ReduceMax", [logits, this.#int64([1])], { keepdims: 1 });
    const off = this.#op("Less", [
      "last",
      writer.constant("int64.zero", "int64", [], new BigInt64Array(1)),
    ]);
    const kept = this.#cumulative(values, most, logits);
    const all = this.#op("GatherElements", [kept, "last"], { axis: 1 });
    const mass = this.#op("Where", [off, this.#float(1), all]);
    const target = this.#op("Mul", ["topP", mass]);
    const nucleus = this.#nucleus(values, kept, target);
    const kth = this.#op("Where", [
      off,
      this.#float(-Infinity),
      this.#op("GatherElements", [values, "last"], { axis: 1 }),
    ]);
    const minP = this.#op("Add", [most, "logMinP"]);
    const threshold = this.#op("Max", [nucleus, kth, minP]);
    const below = this.#op("Less", [logits, threshold]);
    return this.#op("Where", [below, this.#float(-Infinity), logits]);
  }

  /** Running sums of the candidates' probabilities under the whole distribution. */
  #cumulative(values: string, most: string, logits: string): string {
    const exp = (of: string) => this.#op("Exp", [this.#op("Sub", [of, most])]);
    const sum = this.#op("ReduceSum", [exp(logits), this.#int64([1])], { keepdims: 1 });
    return this.#op("CumSum", [this.#op("Div", [exp(values), sum]), this.#scalar(1)]);
  }

  /**
   * The least logit of the smallest set whose mass reaches `target`; -infinity where top-p is off.
   * Output `covered`: whether the candidates hold that set.
   */
  #nucleus(values: string, kept: string, target: string): string {
    const writer = this.#writer;
    const short = this.#op("Cast", [this.#op("Less", [kept, target])], { to: onnxType("int64") });
    const count = this.#op("ReduceSum", [short, this.#int64([1])], { keepdims: 1 });
    const width = this.#op("Sub", ["candidates", this.#int64([1])]);
    const at = this.#op("Min", [count, width]);
    const least = this.#op("GatherElements", [values, at], { axis: 1 });
    writer.node("LessOrEqual", [count, width], "covered");
    writer.output("covered", "bool", ["r", 1]);
    const off = this.#op("GreaterOrEqual", ["topP", this.#float(1)]);
    return this.#op("Where", [off, this.#float(-Infinity), least]);
  }

  /** The token at which the distribution's running sum passes `uniform`. */
  #draw(probabilities: string, out: string): void {
    const writer = this.#writer;
    const blocks = Math.ceil(this.#vocabSize / BLOCK);
    const grid = this.#blocks(probabilities, 0);
    const sums = this.#op("ReduceSum", [grid, this.#int64([2])], { keepdims: 0 });
    const running = this.#op("CumSum", [sums, this.#scalar(1)]);
    const total = this.#last(running, blocks);
    const target = this.#op("Mul", ["uniform", total]);
    const block = this.#passed(running, target, blocks);
    const before = this.#op("Sub", [
      this.#op("GatherElements", [running, block], { axis: 1 }),
      this.#op("GatherElements", [sums, block], { axis: 1 }),
    ]);
    const inside = this.#op("GatherND", [grid, block], { "batch_dims": 1 });
    const inner = this.#op("CumSum", [inside, this.#scalar(1)]);
    // All sums are rounded: the target must stay below the block's own, and not before its first.
    const limit = this.#op("Mul", [this.#last(inner, BLOCK), this.#float(1 - 2 ** -24)]);
    const past = this.#op("Max", [this.#op("Sub", [target, before]), this.#float(0)]);
    const within = this.#op("Min", [past, limit]);
    const offset = this.#passed(inner, within, BLOCK);
    const start = this.#op("Mul", [block, this.#int64([BLOCK])]);
    const token = this.#op("Add", [start, offset]);
    writer.node("Squeeze", [token, this.#int64([1])], out);
  }

  /** How many running sums are at most the target: the index of the first one above it. */
  #passed(running: string, target: string, width: number): string {
    const passed = this.#op("Cast", [this.#op("LessOrEqual", [running, target])], {
      to: onnxType("int64"),
    });
    const count = this.#op("ReduceSum", [passed, this.#int64([1])], { keepdims: 1 });
    return this.#op("Min", [count, this.#int64([width - 1])]);
  }

  #last(running: string, width: number): string {
    const bounds = [this.#int64([width - 1]), this.#int64([width]), this.#int64([1])];
    return this.#op("Slice", [running, ...bounds]);
  }

  /**
   * Logs of the model's own probabilities: of the greedy and the drawn token, and of the top ones.
   */
  #logprobs(raw: string): void {
    const writer = this.#writer;
    writer.input("top", "int64", [1]);
    const axis = this.#int64([1]);
    const most = this.#op("ReduceMax", [raw, axis], { keepdims: 1 });
    const exp = this.#op("Exp", [this.#op("Sub", [raw, most])]);
    const log = this.#op("Log", [this.#op("ReduceSum", [exp, axis], { keepdims: 1 })]);
    const norm = this.#op("Add", [most, log]);
    for (const pick of ["greedy", "drawn"]) {
      const at = this.#op("Unsqueeze", [pick, axis]);
      const logit = this.#op("GatherElements", [raw, at], { axis: 1 });
      writer.node("Squeeze", [this.#op("Sub", [logit, norm]), axis], `${pick}Logprob`);
      writer.output(`${pick}Logprob`, "float32", ["r"]);
    }
    const [values, tokens] = this.#ops("TopK", [raw, "top"], 2, { axis: 1 });
    writer.node("Sub", [values, norm], "topLogprobs");
    writer.node("Identity", [tokens], "topTokens");
    writer.output("topTokens", "int64", ["r", "top"]);
    writer.output("topLogprobs", "float32", ["r", "top"]);
  }

  /**
   * The index of the largest logit (of equal ones the first), by blocks: a maximum over a block is
   * vectorised, the ArgMax operator compares one by one.
   */
  #argMax(logits: string, out: string): void {
    const grid = this.#blocks(logits, -Infinity);
    const maxima = this.#op("ReduceMax", [grid, this.#int64([2])], { keepdims: 0 });
    const block = this.#op("ArgMax", [maxima], { axis: 1, keepdims: 1 });
    const inside = this.#op("GatherND", [grid, block], { "batch_dims": 1 });
    const offset = this.#op("ArgMax", [inside], { axis: 1, keepdims: 1 });
    const start = this.#op("Mul", [block, this.#int64([BLOCK])]);
    const token = this.#op("Add", [start, offset]);
    this.#writer.node("Squeeze", [token, this.#int64([1])], out);
  }

  /** [r, V] as [r, V/256, 256], padded. */
  #blocks(values: string, filler: number): string {
    const blocks = Math.ceil(this.#vocabSize / BLOCK);
    const missing = blocks * BLOCK - this.#vocabSize;
    const padded = missing === 0
      ? values
      : this.#op("Pad", [values, this.#int64([0, 0, 0, missing]), this.#float(filler)]);
    return this.#op("Reshape", [padded, this.#int64([-1, blocks, BLOCK])]);
  }

  #op(op: string, inputs: readonly string[], attributes: Record<string, number | string> = {}) {
    return this.#ops(op, inputs, 1, attributes)[0];
  }

  #ops(
    op: string,
    inputs: readonly string[],
    outputs: number,
    attributes: Record<string, number | string> = {},
  ): string[] {
    const names = Array.from({ length: outputs }, () => `v${this.#count++}`);
    this.#writer.nodes(op, inputs, names, { attributes });
    return names;
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
