/**
 * Decoders of the Llama family as a graph: embedding, layers of attention and gated MLP with RMSNorm
 * around each, a final norm and the head over the rows that want logits (Llama, arXiv 2302.13971).
 * What architectures do differently is data: `DecoderForm` in `checkpoint.ts`. Scales are no nodes:
 * `parameters.ts` folds them into weights.
 */
import type { DecoderConfig, LayerForm, NormPlace } from "../checkpoint/checkpoint.ts";
import { layerForm } from "../checkpoint/layers.ts";
import { ropeWidth } from "../checkpoint/rope.ts";
import { type Graph, GraphBuilder } from "../graph/graph.ts";
import type { AttentionForm, Value } from "../graph/ops.ts";
import { addHeadLayout } from "../graph/lowering/head_layout.ts";
import { BranchBuilder, type Branches, fromOrigin, type Origin } from "./branches.ts";
import { type ModuleName, SITE_OF, SITES } from "./hook.ts";
import { inputs } from "./inputs.ts";
import { names } from "./parameters.ts";
import { isScalable } from "./smooth.ts";
import { type HookShape, outputsOf } from "./widths.ts";

/**
 * A step of the decoder over a batch of rows: ids [tokens] (batch × time, flattened), grid [2],
 * lengths [batch], total [1] (see `attention` in `graph/ops.ts`), rows [R] = the tokens whose logits
 * are wanted, caches [batch, KV, capacity, D] a layer, cores [batch, r, m·r] a layer and adapted site,
 * LoRAs' pieces [K, d_in, 8] and [K, 8, d_out] a layer and module → logits [R, V].
 */
export function buildDecoder(
  config: DecoderConfig,
  positions: number,
  branches: Branches = {},
): Graph {
  return new DecoderBuilder(config, positions, branches).build();
}

/**
 * One layer alone, of some form, with its weights as inputs of the graph, as the checkpoint has them and under the
 * names of layer 0, so that one compiled graph computes every layer of that form: `hidden` [tokens, d] →
 * `0.out` [tokens, d], and what each site reads that channel scales can divide, `0.SITE` [tokens, d_in]. Its grid, lengths, total and caches are those of a decoder of one layer.
 */
export function buildLayer(config: DecoderConfig, positions: number, form: LayerForm): Graph {
  return new DecoderBuilder({ ...config, layers: [form] }, positions, {}).buildLayer();
}

/** A decoder with its loss, not yet differentiated: values to differentiate by and to cut at. */
export interface TrainingDecoder {
  readonly graph: GraphBuilder;
  /** What each layer's attention and then its MLP read: where a pass can be cut. */
  readonly entries: readonly Value[];
  /** What the head reads, [rows, d]. */
  readonly normed: Value;
  readonly logits: Value;
  /** -log p of each row's target, or how far the row is from its teacher (`kl`), [rows]. */
  readonly loss: Value;
  /** 1 where the target is the likeliest, [rows]. */
  readonly hits: Value;
  /** Gradient of what is minimised by each loss: how much each row counts, [rows]. */
  readonly seeds: Value;
}

/**
 * The decoder over whole rows without caches, with its loss: ids [tokens], grid [2] and where tokens
 * lie on it (cells [batch × time], places [tokens]), context [batch, C] and offsets [batch] of shared
 * prefixes, rows [R] = the tokens that carry loss, targets and seeds [R].
 */
export function buildTraining(
  config: DecoderConfig,
  positions: number,
  hook: HookShape | undefined,
  options: TrainingOptions = {},
): TrainingDecoder {
  return new DecoderBuilder(config, positions, { hook }).buildTraining(options);
}

export interface TrainingOptions {
  /** "inputs": A and B are inputs of the graph, one each layer, as in `names`. Default "parameters". */
  readonly factors?: Origin;
  /**
   * How many of a teacher's tokens each row is compared by: taught [R, K] and shares [R, K + 1] are
   * inputs, too (`kl` in `graph/ops.ts`). Undefined = there is no teacher.
   */
  readonly taught?: number | undefined;
}

/** What a block's norms put out, by its name in the graph: sites, where linears read it. */
const NORMED: Readonly<Record<NormPlace, string>> = {
  beforeAttention: "attn_in",
  afterAttention: "attn_added",
  beforeMlp: "mlp_in",
  afterMlp: "mlp_added",
};

/** How a layer's queries attend to what came before, given the packed projections. */
type Attend = (layer: number, qkv: Value) => Value;

class DecoderBuilder {
  readonly #graph = new GraphBuilder();
  readonly #config: DecoderConfig;
  readonly #branches: BranchBuilder;
  readonly #grid: Value;
  /** cos and sin of each of the model's ropes. */
  readonly #ropes: readonly Pick<AttentionForm, "cos" | "sin" | "interleaved">[];
  #attend: Attend;
  #weights: Origin = "parameters";
  #training = false;
  /** What each site of each layer reads, by `LAYER.SITE`, and the head, by `head`. */
  readonly #sites = new Map<string, Value>();

  constructor(config: DecoderConfig, positions: number, branches: Branches) {
    const graph = this.#graph;
    this.#config = config;
    this.#grid = graph.input(inputs.grid, "int64", [2]);
    this.#branches = new BranchBuilder(graph, config, branches, this.#grid);
    this.#ropes = config.ropes.map((rope, i) => {
      const shape = [positions, ropeWidth(rope, config.headDim)];
      const table = (name: string) => graph.parameter(name, shape);
      const { interleaved } = rope;
      return { cos: table(names.cos(i)), sin: table(names.sin(i)), interleaved };
    });
    this.#attend = this.#cached();
  }

  build(): Graph {
    return this.#graph.finish([this.#logits()]);
  }

  buildLayer(): Graph {
    this.#weights = "inputs";
    const shape = ["tokens", this.#config.hiddenSize];
    const x = this.#graph.input(inputs.hidden, "float32", shape);
    const out = this.#layer(0, x);
    const sites = SITES.filter((site) => isScalable(this.#config, site));
    return this.#graph.finish([out, ...sites.map((site) => this.#site(`0.${site}`))]);
  }

  buildTraining({ factors = "parameters", taught }: TrainingOptions): TrainingDecoder {
    const graph = this.#graph;
    this.#branches.factors = factors;
    this.#training = true;
    const context = graph.input(inputs.context, "int32", ["batch", "contexts"]);
    const offsets = graph.input(inputs.offsets, "int32", ["batch"]);
    const grid = this.#grid;
    const masks = new Map<number | undefined, Value>();
    const maskOf = (window: number | undefined) => {
      const name = masks.size === 0 ? "mask" : `seen.${window ?? "all"}`;
      const known = masks.get(window) ??
        graph.add("attentionMask", { context, offsets, grid, window }, name);
      masks.set(window, known);
      return known;
    };
    for (const { window } of this.#config.layers) maskOf(window);
    const positions = graph.add("positions", { offsets, grid }, "positions");
    const cells = graph.input(inputs.cells, "int32", ["cells"]);
    const places = graph.input(inputs.places, "int32", ["tokens"]);
    this.#branches.layout = { cells, places };
    const layout = { cells, places, ...addHeadLayout(graph, this.#form(0), { cells, places }) };
    this.#attend = (layer, qkv) => {
      const form = this.#form(layer);
      const mask = maskOf(form.window);
      const args = { qkv, context, offsets, mask, positions, ...layout, ...form };
      return graph.add("causalAttention", args, `${layer}.attn_out`);
    };
    const logits = this.#logits();
    const targets = graph.input(inputs.targets, "int32", ["rows"]);
    const seeds = graph.input(inputs.seeds, "float32", ["rows"]);
    const p = graph.add("softmax", { x: logits }, "p");
    // a cap lies between the head and the softmax: the way back goes through it
    const head = this.#config.logitCap === undefined
      ? { p, x: this.#site("head"), weight: this.#head() }
      : { p };
    const loss = taught === undefined
      ? graph.add("nll", { logits, targets, ...head }, "nll")
      : graph.add("kl", { logits, ...this.#teacher(taught), ...head }, "kl");
    const hits = graph.add("hits", { logits, targets }, "hits");
    const entries = Array.from(
      { length: this.#config.numLayers },
      (_, layer) => [this.#site(`${layer}.attn_in`), this.#site(`${layer}.mlp_in`)],
    ).flat();
    return { graph, entries, normed: this.#site("head"), logits, loss, hits, seeds };
  }

  #teacher(count: number): { readonly tokens: Value; readonly shares: Value } {
    return {
      tokens: this.#graph.input(inputs.taught, "int32", ["rows", count]),
      shares: this.#graph.input(inputs.shares, "float32", ["rows", count + 1]),
    };
  }

  #logits(): Value {
    const { vocabSize, hiddenSize, numLayers } = this.#config;
    const ids = this.#graph.input(inputs.ids, "int32", ["tokens"]);
    const rows = this.#graph.input(inputs.rows, "int32", ["rows"]);
    const table = this.#graph.parameter(names.embedding, [vocabSize, hiddenSize]);
    let x = this.#graph.add("embed", { ids, table }, "embedded");
    for (let layer = 0; layer < numLayers - 1; layer++) x = this.#layer(layer, x);
    const normed = this.#norm(this.#lastLayer(numLayers - 1, x, rows), names.norm, "normed");
    this.#sites.set("head", normed);
    const product = { x: normed, weights: [this.#head()], biases: [] };
    const { logitCap: cap } = this.#config;
    if (cap === undefined) return this.#graph.add("linear", product, inputs.logits);
    const logits = this.#graph.add("linear", product, "uncapped");
    return this.#graph.add("softCap", { x: logits, cap }, inputs.logits);
  }

  /** A parameter of its own even where it is tied: its input channels may be scaled. */
  #head(): Value {
    const { vocabSize, hiddenSize } = this.#config;
    return this.#graph.parameter(names.head, [vocabSize, hiddenSize]);
  }

  #site(name: string): Value {
    const value = this.#sites.get(name);
    if (value === undefined) throw new TypeError(`internal: no site ${name}`);
    return value;
  }

  #form(layer: number): AttentionForm {
    const { numHeads, numKvHeads, headDim, attentionScale, scoreCap } = this.#config;
    const { rope, window } = layerForm(this.#config, layer);
    return {
      ...this.#ropes[rope],
      grid: this.#grid,
      heads: numHeads,
      kvHeads: numKvHeads,
      headDim,
      // As parameters, queries have it folded into their weights.
      scale: this.#weights === "parameters" ? 1 : attentionScale,
      window,
      cap: scoreCap,
    };
  }

  /** Attention over keys and values of earlier steps, written in place. */
  #cached(): Attend {
    const graph = this.#graph;
    const { numKvHeads, headDim } = this.#config;
    const counts = once(() => ({
      lengths: graph.input(inputs.lengths, "int32", ["batch"]),
      total: graph.input(inputs.total, "int32", [1]),
    }));
    const shape = ["batch", numKvHeads, "capacity", headDim];
    return (layer, qkv) => {
      const keys = graph.state(inputs.keys(layer), "float32", shape);
      const values = graph.state(inputs.values(layer), "float32", shape);
      const args = { qkv, keys, values, ...counts(), ...this.#form(layer) };
      return graph.add("attention", args, `${layer}.attn_out`);
    };
  }

  #layer(layer: number, x: Value): Value {
    return this.#afterAttention(layer, x, this.#attended(layer, x));
  }

  /** The last layer's rows that the head reads; what comes before no other token asks for. */
  #lastLayer(layer: number, x: Value, rows: Value): Value {
    const attended = this.#attended(layer, x);
    const pick = (value: Value, name: string) =>
      this.#graph.add("rows", { x: value, index: rows }, name);
    // A branch wants whole rows of the batch.
    const branches = SITES.some((site) => site !== "attn_in" && this.#branches.hasCores(site));
    if (branches || !this.#training) {
      return pick(this.#afterAttention(layer, x, attended), "last");
    }
    const [before, seen] = [pick(x, "last.in"), pick(attended, "last.attended")];
    return this.#afterAttention(layer, before, seen);
  }

  #attended(layer: number, x: Value): Value {
    return this.#attention(layer, this.#blockNorm(layer, "beforeAttention", x));
  }

  #afterAttention(layer: number, x: Value, attended: Value): Value {
    const o = this.#linear(layer, ["o_proj"], attended, this.#config.outputBias);
    const b = this.#blockNorm(layer, "afterAttention", o);
    const middle = this.#graph.add("add", { a: x, b }, `${layer}.middle`);
    const mixed = this.#mixed(layer, this.#blockNorm(layer, "beforeMlp", middle));
    const down = this.#linear(layer, ["down_proj"], mixed, false);
    const mlp = this.#blockNorm(layer, "afterMlp", down);
    return this.#graph.add("add", { a: middle, b: mlp }, `${layer}.out`);
  }

  /** x as it is where the block has no norm there. */
  #blockNorm(layer: number, place: NormPlace, x: Value): Value {
    const name = this.#config.norms[place];
    return name === undefined
      ? x
      : this.#norm(x, names.layer(layer, name), `${layer}.${NORMED[place]}`);
  }

  /** Gate and up in one product where nodes count, apart where bytes do. */
  #mixed(layer: number, x: Value): Value {
    const name = `${layer}.mlp_mid`;
    const { activation } = this.#config;
    const apart = this.#training || this.#weights === "inputs";
    if (!apart || this.#branches.hasCores("mlp_in")) {
      const both = this.#linear(layer, ["gate_proj", "up_proj"], x, false);
      return this.#graph.add("glu", { x: both, activation }, name);
    }
    const gate = this.#linear(layer, ["gate_proj"], x, false);
    const up = this.#linear(layer, ["up_proj"], x, false);
    return this.#graph.add("gated", { gate, up, activation }, name);
  }

  #attention(layer: number, x: Value): Value {
    const modules: ModuleName[] = ["q_proj", "k_proj", "v_proj"];
    const packed = this.#linear(layer, modules, x, this.#config.qkvBias);
    const isNormed = this.#config.qkNorm !== "none";
    return this.#attend(layer, isNormed ? this.#headNorm(layer, packed) : packed);
  }

  /** RMSNorm of q and k. */
  #headNorm(layer: number, qkv: Value): Value {
    const { numHeads, numKvHeads, headDim, qkNorm } = this.#config;
    const counts = { q: numHeads, k: numKvHeads, v: numKvHeads };
    let start = 0;
    const part = (which: "q" | "k" | "v") => {
      const size = counts[which] * headDim;
      const value = this.#graph.add("columns", { x: qkv, start, size }, `${layer}.${which}`);
      start += size;
      if (which === "v") return value;
      const name = names.headNorm(layer, which);
      const groups = qkNorm === "whole" ? 1 : counts[which];
      return this.#norm(value, name, `${layer}.${which}_norm`, groups);
    };
    return this.#graph.add("concat", { parts: [part("q"), part("k"), part("v")] }, `${layer}.qkv`);
  }

  #norm(x: Value, name: string, out: string, groups = 1): Value {
    const width = Number(x.shape[1]) / groups;
    const gamma = this.#weight(name, [width]);
    return this.#graph.add("rmsNorm", { x, gamma, eps: this.#config.rmsNormEps, groups }, out);
  }

  /** Linears that share an input, side by side, with the branch of those that are adapted. */
  #linear(layer: number, modules: readonly ModuleName[], x: Value, bias: boolean): Value {
    const [first] = modules;
    if (first !== undefined) this.#sites.set(`${layer}.${SITE_OF[first]}`, x);
    return this.#branches.add(layer, modules, x, this.#products(layer, modules, x, bias));
  }

  #products(layer: number, modules: readonly ModuleName[], x: Value, bias: boolean): Value {
    const name = `${layer}.${modules.join("+")}`;
    if (this.#weights === "inputs" && modules.length > 1) {
      const parts = modules.map((module) => this.#products(layer, [module], x, bias));
      return this.#graph.add("concat", { parts }, name);
    }
    const [width, outputs] = [
      Number(x.shape[1]),
      (one: ModuleName) => outputsOf(this.#config, one),
    ];
    const weights = modules.map((module) =>
      this.#weight(names.linear(layer, module), [outputs(module), width])
    );
    const biases = modules.map((module) =>
      bias ? [this.#weight(names.linear(layer, module, "bias"), [outputs(module)])] : []
    );
    return this.#graph.add("linear", { x, weights, biases: biases.flat() }, name);
  }

  #weight(name: string, shape: readonly number[]): Value {
    return fromOrigin(this.#graph, this.#weights, name, shape);
  }
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
