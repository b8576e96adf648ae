/**
 * BERT's family as a graph: tables of tokens, positions and types, then layers of attention and MLP
 * with LayerNorm behind each sum (BERT, arXiv 1810.04805; RoBERTa, 1907.11692; MPNet, 2004.09297, by
 * its bias of distances). Every linear has the adapters' hook, as in a decoder.
 */
import type { EncoderConfig } from "../../checkpoint/encoder/config.ts";
import { type Graph, GraphBuilder } from "../../graph/graph.ts";
import type { BidirectionalForm, Value } from "../../graph/ops.ts";
import { BranchBuilder } from "../branches.ts";
import type { ModuleName } from "../hook.ts";
import { inputs } from "../inputs.ts";
import { names } from "../parameters.ts";
import { type HookShape, outputsOf } from "../widths.ts";

/** Names of an encoder graph's inputs and outputs, beside those that it shares with decoders. */
export const encoderInputs = {
  positions: "positions",
  types: "types",
  /** Tokens of each row, [batch]. */
  lengths: inputs.lengths,
  /** How much each token counts in each vector, [vectors, tokens]. */
  pooling: "pooling",
  pooled: "pooled",
  hiddenStates: "hidden_states",
} as const;

/** Names of an encoder's parameters, beside those that it shares with decoders. */
export const encoderNames = {
  positions: "model.embed_positions.weight",
  types: "model.embed_types.weight",
  embedNorm: "model.embed_norm",
  attentionNorm: (layer: number) => `model.layers.${layer}.attention_norm`,
  outputNorm: (layer: number) => `model.layers.${layer}.output_norm`,
  /** Made of `stored`, for each distance. */
  distances: "distances.table",
  relativeBias: "model.relative_bias.weight",
} as const;

/**
 * A pass over texts: ids, positions and types [tokens] (packed), grid [2], lengths [batch], cells
 * [batch × time] and places [tokens] (`Layout`), cores [batch, r, m·r] a layer and adapted site. What
 * it puts out are vectors [vectors, d] by pooling [vectors, tokens], or hidden states [tokens, d].
 */
export function buildEncoder(
  config: EncoderConfig,
  hook: HookShape | undefined,
  output: "pooled" | "hidden",
): Graph {
  return new EncoderBuilder(config, hook).build(output);
}

class EncoderBuilder {
  readonly #graph = new GraphBuilder();
  readonly #config: EncoderConfig;
  readonly #branches: BranchBuilder;
  readonly #form: BidirectionalForm;

  constructor(config: EncoderConfig, hook: HookShape | undefined) {
    const graph = this.#graph;
    this.#config = config;
    const grid = graph.input(inputs.grid, "int64", [2]);
    this.#branches = new BranchBuilder(graph, config, { hook }, grid);
    const layout = {
      cells: graph.input(inputs.cells, "int32", ["cells"]),
      places: graph.input(inputs.places, "int32", ["tokens"]),
    };
    this.#branches.layout = layout;
    const { numHeads: heads, headDim } = config;
    const lengths = graph.input(encoderInputs.lengths, "int32", ["batch"]);
    this.#form = { grid, lengths, heads, headDim, scale: 1 / Math.sqrt(headDim), ...layout };
  }

  build(output: "pooled" | "hidden"): Graph {
    const graph = this.#graph;
    const form = { ...this.#form, ...this.#bias() };
    let x = this.#embedded();
    for (let layer = 0; layer < this.#config.numLayers; layer++) x = this.#layer(layer, x, form);
    if (output === "hidden") return graph.finish([x]);
    const pooling = graph.input(encoderInputs.pooling, "float32", ["vectors", "tokens"]);
    return graph.finish([graph.add("pool", { x, weights: pooling }, encoderInputs.pooled)]);
  }

  #embedded(): Value {
    const { vocabSize, positionRows, tokenTypes } = this.#config;
    const tokens = this.#table(inputs.ids, names.embedding, vocabSize);
    const positions = this.#table(encoderInputs.positions, encoderNames.positions, positionRows);
    if (tokenTypes === 0) return this.#norm(tokens, positions, encoderNames.embedNorm, "embedded");
    const types = this.#table(encoderInputs.types, encoderNames.types, tokenTypes);
    const placed = this.#graph.add("add", { a: tokens, b: positions }, "placed");
    return this.#norm(placed, types, encoderNames.embedNorm, "embedded");
  }

  #table(input: string, name: string, rows: number): Value {
    const ids = this.#graph.input(input, "int32", ["tokens"]);
    const table = this.#graph.parameter(name, [rows, this.#config.hiddenSize]);
    return this.#graph.add("embed", { ids, table }, `${input}.rows`);
  }

  #bias(): { readonly bias?: Value } {
    const { relativeBuckets, numHeads, maxPositions } = this.#config;
    if (relativeBuckets === undefined) return {};
    const shape = [numHeads, 2 * maxPositions - 1];
    const table = this.#graph.parameter(encoderNames.distances, shape);
    const { grid } = this.#form;
    return { bias: this.#graph.add("relativeBias", { table, grid }, "relative_bias") };
  }

  #layer(layer: number, x: Value, form: BidirectionalForm): Value {
    const qkv = this.#linear(layer, ["q_proj", "k_proj", "v_proj"], x);
    const seen = this.#graph.add("bidirectionalAttention", { qkv, ...form }, `${layer}.attn_out`);
    const o = this.#linear(layer, ["o_proj"], seen);
    const middle = this.#norm(x, o, encoderNames.attentionNorm(layer), `${layer}.mlp_in`);
    const up = this.#linear(layer, ["up_proj"], middle);
    const bent = this.#graph.add("gelu", { x: up, form: this.#config.gelu }, `${layer}.mlp_mid`);
    const down = this.#linear(layer, ["down_proj"], bent);
    const last = layer === this.#config.numLayers - 1;
    const out = last ? encoderInputs.hiddenStates : `${layer}.out`;
    return this.#norm(middle, down, encoderNames.outputNorm(layer), out);
  }

  /** The norm of a sum. */
  #norm(a: Value, b: Value, name: string, out: string): Value {
    const { hiddenSize, layerNormEps: eps } = this.#config;
    const x = this.#graph.add("add", { a, b }, `${out}.sum`);
    const [gamma, beta] = ["weight", "bias"].map((part) =>
      this.#graph.parameter(`${name}.${part}`, [hiddenSize])
    );
    return this.#graph.add("layerNorm", { x, gamma, beta, eps }, out);
  }

  #linear(layer: number, modules: readonly ModuleName[], x: Value): Value {
    const width = Number(x.shape[1]);
    const parameter = (module: ModuleName, what: "weight" | "bias", shape: readonly number[]) =>
      this.#graph.parameter(names.linear(layer, module, what), shape);
    const sizes = modules.map((module) => outputsOf(this.#config, module));
    const args = {
      x,
      weights: modules.map((module, i) => parameter(module, "weight", [sizes[i], width])),
      biases: modules.map((module, i) => parameter(module, "bias", [sizes[i]])),
    };
    const y = this.#graph.add("linear", args, `${layer}.${modules.join("+")}`);
    return this.#branches.add(layer, modules, x, y);
  }
}
