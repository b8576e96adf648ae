/**
 * The Llama family as a graph: embedding, layers of attention and SwiGLU with RMSNorm before each,
 * a final norm and the head over the rows that want logits (Llama, arXiv 2302.13971; Mistral,
 * arXiv 2310.06825; Qwen2 and Qwen3 by their biases and QK norm). It knows no precision, no device
 * and no adapter but the seam where one joins.
 */
import type { DecoderConfig } from "../checkpoint/checkpoint.ts";
import { type Graph, GraphBuilder, type Value } from "../graph/graph.ts";
import { type LinearHook, type ModuleName, SITE_OF, type SiteName } from "./hook.ts";
import { names } from "./parameters.ts";

/** Names of a decoder graph's inputs that the engine's executor binds. */
export const inputs = {
  ids: "ids",
  grid: "grid",
  lengths: "lengths",
  total: "total",
  rows: "rows",
  keys: (layer: number) => `keys.${layer}`,
  values: (layer: number) => `values.${layer}`,
  cores: (layer: number, site: SiteName) => `cores.${layer}.${site}`,
  logits: "logits",
} as const;

/** What a hook means for the shapes of a graph. */
export type HookShape = Pick<LinearHook, "rank" | "modules">;

/** The adapted modules of a site, in the order in which a core holds them. */
export function modulesOf(hook: HookShape, site: SiteName): ModuleName[] {
  return hook.modules.filter((module) => SITE_OF[module] === site);
}

/**
 * A step of the decoder over a batch of rows: ids [tokens] (batch × time, flattened), grid [2],
 * lengths [batch], total [1] (see `attention` in `graph/ops.ts`), rows [R] = the tokens whose logits
 * are wanted, caches [batch, KV, capacity, D] a layer, cores [batch, r, m·r] a layer and adapted site
 * → logits [R, V].
 */
export function buildDecoder(config: DecoderConfig, positions: number, hook?: HookShape): Graph {
  return new DecoderBuilder(config, positions, hook).build();
}

/**
 * The same step, putting out the largest |activation| of each channel of each site (`max.L.SITE`) and of
 * the head (`max.head`).
 */
export function buildCalibration(config: DecoderConfig, positions: number): Graph {
  return new DecoderBuilder(config, positions, undefined).buildCalibration();
}

/** Outputs of a module. */
export function outputsOf(config: DecoderConfig, module: ModuleName): number {
  switch (module) {
    case "q_proj":
      return config.numHeads * config.headDim;
    case "k_proj":
    case "v_proj":
      return config.numKvHeads * config.headDim;
    case "gate_proj":
    case "up_proj":
      return config.intermediateSize;
    case "o_proj":
    case "down_proj":
      return config.hiddenSize;
  }
}

/** Inputs of a site. */
export function inputsOf(config: DecoderConfig, site: SiteName): number {
  switch (site) {
    case "attn_in":
    case "mlp_in":
      return config.hiddenSize;
    case "attn_out":
      return config.numHeads * config.headDim;
    case "mlp_mid":
      return config.intermediateSize;
  }
}

class DecoderBuilder {
  readonly #graph = new GraphBuilder();
  readonly #config: DecoderConfig;
  readonly #hook: HookShape | undefined;
  readonly #ids: Value;
  readonly #grid: Value;
  readonly #lengths: Value;
  readonly #total: Value;
  readonly #cos: Value;
  readonly #sin: Value;
  /** What each site of each layer reads, by `LAYER.SITE`, and the head, by `head`. */
  readonly #sites = new Map<string, Value>();

  constructor(config: DecoderConfig, positions: number, hook: HookShape | undefined) {
    const graph = this.#graph;
    this.#config = config;
    this.#hook = hook;
    this.#ids = graph.input(inputs.ids, "int32", ["tokens"]);
    this.#grid = graph.input(inputs.grid, "int64", [2]);
    this.#lengths = graph.input(inputs.lengths, "int32", ["batch"]);
    this.#total = graph.input(inputs.total, "int32", [1]);
    this.#cos = graph.parameter(names.cos, [positions, config.headDim / 2]);
    this.#sin = graph.parameter(names.sin, [positions, config.headDim / 2]);
  }

  build(): Graph {
    const { vocabSize, hiddenSize, numLayers } = this.#config;
    const rows = this.#graph.input(inputs.rows, "int32", ["rows"]);
    const table = this.#graph.parameter(names.embedding, [vocabSize, hiddenSize]);
    let x = this.#graph.add("embed", { ids: this.#ids, table }, "embedded");
    for (let layer = 0; layer < numLayers; layer++) x = this.#layer(layer, x);
    const last = this.#graph.add("rows", { x, index: rows }, "last");
    const normed = this.#norm(last, names.norm, "normed");
    // A parameter of its own even where it is tied: its input channels may be scaled.
    const head = this.#graph.parameter(names.head, [vocabSize, hiddenSize]);
    this.#sites.set("head", normed);
    const logits = { x: normed, weights: [head], biases: [] };
    return this.#graph.finish([this.#graph.add("linear", logits, inputs.logits)]);
  }

  buildCalibration(): Graph {
    const logits = this.build().outputs;
    const maxima = [...this.#sites].map(([name, x]) =>
      this.#graph.add("channelMax", { x }, `max.${name}`)
    );
    return this.#graph.finish([...maxima, ...logits]);
  }

  #layer(layer: number, x: Value): Value {
    const normed = this.#norm(x, names.attentionNorm(layer), `${layer}.attn_in`);
    const attended = this.#attention(layer, normed);
    const o = this.#linear(layer, ["o_proj"], attended, this.#config.outputBias);
    const middle = this.#graph.add("add", { a: x, b: o }, `${layer}.middle`);
    const mlpIn = this.#norm(middle, names.mlpNorm(layer), `${layer}.mlp_in`);
    const gateUp = this.#linear(layer, ["gate_proj", "up_proj"], mlpIn, false);
    const mixed = this.#graph.add("swiglu", { x: gateUp }, `${layer}.mlp_mid`);
    const down = this.#linear(layer, ["down_proj"], mixed, false);
    return this.#graph.add("add", { a: middle, b: down }, `${layer}.out`);
  }

  #attention(layer: number, x: Value): Value {
    const { numHeads, numKvHeads, headDim, slidingWindow } = this.#config;
    const modules: ModuleName[] = ["q_proj", "k_proj", "v_proj"];
    const packed = this.#linear(layer, modules, x, this.#config.qkvBias);
    const shape = ["batch", numKvHeads, "capacity", headDim];
    const args = {
      qkv: this.#config.qkNorm ? this.#headNorm(layer, packed) : packed,
      keys: this.#graph.state(inputs.keys(layer), "float32", shape),
      values: this.#graph.state(inputs.values(layer), "float32", shape),
      lengths: this.#lengths,
      total: this.#total,
      cos: this.#cos,
      sin: this.#sin,
      grid: this.#grid,
      heads: numHeads,
      kvHeads: numKvHeads,
      headDim,
      scale: 1,
      window: slidingWindow,
    };
    return this.#graph.add("attention", args, `${layer}.attn_out`);
  }

  /** RMSNorm over each head of q and k. */
  #headNorm(layer: number, qkv: Value): Value {
    const { numHeads, numKvHeads, headDim } = this.#config;
    const counts = { q: numHeads, k: numKvHeads, v: numKvHeads };
    let start = 0;
    const part = (which: "q" | "k" | "v") => {
      const size = counts[which] * headDim;
      const value = this.#graph.add("columns", { x: qkv, start, size }, `${layer}.${which}`);
      start += size;
      if (which === "v") return value;
      const name = names.headNorm(layer, which);
      return this.#norm(value, name, `${layer}.${which}_norm`, counts[which]);
    };
    return this.#graph.add("concat", { parts: [part("q"), part("k"), part("v")] }, `${layer}.qkv`);
  }

  #norm(x: Value, name: string, out: string, groups = 1): Value {
    const width = Number(x.shape[1]) / groups;
    const gamma = this.#graph.parameter(name, [width]);
    return this.#graph.add("rmsNorm", { x, gamma, eps: this.#config.rmsNormEps, groups }, out);
  }

  /** Linears that share an input, side by side, with the branch of those that are adapted. */
  #linear(layer: number, modules: readonly ModuleName[], x: Value, bias: boolean): Value {
    const shape = (module: ModuleName) => outputsOf(this.#config, module);
    const width = Number(x.shape[1]);
    const [first] = modules;
    if (first !== undefined) this.#sites.set(`${layer}.${SITE_OF[first]}`, x);
    const weights = modules.map((module) =>
      this.#graph.parameter(names.linear(layer, module), [shape(module), width])
    );
    const biases = bias
      ? modules.map((module) =>
        this.#graph.parameter(names.linear(layer, module, "bias"), [shape(module)])
      )
      : [];
    const y = this.#graph.add("linear", { x, weights, biases }, `${layer}.${modules.join("+")}`);
    return this.#branch(layer, modules, x, y);
  }

  #branch(layer: number, modules: readonly ModuleName[], x: Value, y: Value): Value {
    const hook = this.#hook;
    const [first] = modules;
    if (hook === undefined || first === undefined) return y;
    const site = SITE_OF[first];
    const adapted = modulesOf(hook, site);
    if (adapted.length === 0) return y;
    const { rank } = hook;
    const offsets = adapted.map((module) => this.#offset(modules, module));
    const args = {
      x,
      y,
      a: this.#graph.parameter(names.a(layer, site), [Number(x.shape[1]), rank]),
      cores: this.#graph.input(inputs.cores(layer, site), "float32", [
        "batch",
        rank,
        adapted.length * rank,
      ]),
      b: adapted.map((module) =>
        this.#graph.parameter(names.b(layer, module), [rank, outputsOf(this.#config, module)])
      ),
      offsets,
      grid: this.#grid,
    };
    return this.#graph.add("lotr", args, `${layer}.${site}.adapted`);
  }

  /** Where a module's outputs begin in the packed ones. */
  #offset(modules: readonly ModuleName[], module: ModuleName): number {
    return modules.slice(0, modules.indexOf(module))
      .reduce((sum, before) => sum + outputsOf(this.#config, before), 0);
  }
}
