/**
 * The pullback of each operation: from the gradient of a scalar by its output to those by its
 * arguments, as operations of the same graph (reverse mode; Griewank and Walther, Evaluating
 * Derivatives, chapter 3). The table is total: an operation without a row does not compile.
 */
import type { GraphBuilder } from "./graph.ts";
import type { OpName, Ops, Value } from "./ops.ts";

/** What a pullback works with. */
export interface Pulling {
  readonly graph: GraphBuilder;
  /** The operation's output, and the gradient by it, of the same shape. */
  readonly out: Value;
  readonly dy: Value;
  /** Whether the gradient by this argument is wanted. */
  wants(argument: Value): boolean;
  /** Adds a gradient by an argument; several for one argument are summed. */
  give(argument: Value, gradient: Value): void;
}

type Pullback<K extends OpName> = (args: Ops[K], pulling: Pulling) => void;

/** The pullback of each operation. */
export const PULLBACKS: { readonly [K in OpName]: Pullback<K> } = {
  embed: none("embed: token ids have no gradient, and the table is frozen"),

  rmsNorm({ x, gamma, eps, groups }, { graph, out, dy, wants, give }) {
    frozen("rmsNorm's gamma", gamma, wants);
    if (!wants(x)) return;
    give(x, graph.add("rmsNormGrad", { x, gamma, dy, eps, groups }, `d.${out.name}.x`));
  },

  layerNorm({ x, gamma, beta, eps }, { graph, out, dy, wants, give }) {
    for (const one of [gamma, beta]) frozen("layerNorm's gamma and beta", one, wants);
    if (wants(x)) give(x, graph.add("layerNormGrad", { x, gamma, dy, eps }, `d.${out.name}.x`));
  },

  gelu({ x, form }, { graph, out, dy, wants, give }) {
    if (wants(x)) give(x, graph.add("geluGrad", { x, dy, form }, `d.${out.name}.x`));
  },

  pool({ x, weights }, { graph, out, dy, wants, give }) {
    frozen("pooling", weights, wants);
    if (wants(x)) give(x, graph.add("poolGrad", { weights, dy }, `d.${out.name}.x`));
  },

  bidirectionalAttention(args, { graph, out, dy, wants, give }) {
    if (args.bias !== undefined) frozen("attention's bias", args.bias, wants);
    if (!wants(args.qkv)) return;
    give(args.qkv, graph.add("bidirectionalAttentionGrad", { ...args, dy }, `d.${out.name}.qkv`));
  },

  linear({ x, weights, biases }, { graph, out, dy, wants, give }) {
    for (const bias of biases) frozen("a linear's bias", bias, wants);
    if (wants(x)) give(x, graph.add("linearGrad", { dy, weights }, `d.${out.name}.x`));
    let start = 0;
    weights.forEach((weight, i) => {
      const size = Number(weight.shape[0]);
      if (wants(weight)) {
        const part = sliced(graph, dy, { start, size }, `d.${out.name}.part${i}`);
        give(weight, graph.add("outer", { a: part, b: x }, `d.${out.name}.w${i}`));
      }
      start += size;
    });
  },

  lotr({ x, y, a, cores, b, offsets, grid, cells, places }, { graph, out, dy, wants, give }) {
    const name = `d.${out.name}`;
    if (wants(y)) give(y, dy);
    if (![x, a, cores, ...b].some(wants)) return;
    const regrouped = (x: Value, index: Value | undefined, inverse: Value | undefined) =>
      index === undefined || inverse === undefined
        ? x
        : graph.add("regroup", { x, index, inverse }, `${x.name}.moved`);
    const toCells = (value: Value) => regrouped(value, cells, places);
    const toTokens = (value: Value) => regrouped(value, places, cells);
    const dv = toCells(graph.add("lotrGrad", { dy, b, offsets }, `${name}.v`));
    const u = toCells(graph.add("project", { x, w: a }, `${name}.u`));
    if (wants(cores)) {
      give(cores, graph.add("coreGrad", { u, dv, cores, grid }, `${name}.cores`));
    }
    if (b.some(wants)) {
      const v = toTokens(graph.add("coreProduct", { u, cores, grid }, `${name}.v.again`));
      const rank = Number(a.shape[1]);
      b.forEach((factor, m) => {
        if (!wants(factor)) return;
        const left = sliced(graph, v, { start: m * rank, size: rank }, `${name}.v${m}`);
        const module = { start: offsets[m] ?? 0, size: Number(factor.shape[1]) };
        const right = sliced(graph, dy, module, `${name}.y${m}`);
        give(factor, graph.add("outer", { a: left, b: right }, `${name}.b${m}`));
      });
    }
    if (!wants(x) && !wants(a)) return;
    const du = toTokens(graph.add("coreProductGrad", { dv, cores, grid }, `${name}.du`));
    if (wants(a)) give(a, graph.add("outer", { a: x, b: du }, `${name}.a`));
    if (wants(x)) give(x, graph.add("projectGrad", { dy: du, w: a }, `${name}.x`));
  },

  lora: none("lora: it is served, and never trained"),
  attention: none("attention writes its caches in place: train with causalAttention"),

  causalAttention(args, { graph, out, dy, wants, give }) {
    for (const table of [args.cos, args.sin]) frozen("the rotation", table, wants);
    if (!wants(args.qkv)) return;
    const dqkv = graph.add("causalAttentionGrad", { ...args, out, dy }, `d.${out.name}.qkv`);
    give(args.qkv, dqkv);
  },

  add({ a, b }, { dy, wants, give }) {
    for (const term of [a, b]) if (wants(term)) give(term, dy);
  },

  glu({ x, ...form }, { graph, out, dy, wants, give }) {
    if (wants(x)) give(x, graph.add("gluGrad", { x, dy, ...form }, `d.${out.name}.x`));
  },

  gated({ gate, up, ...form }, { graph, out, dy, wants, give }) {
    const name = `d.${out.name}`;
    if (wants(gate)) give(gate, graph.add("gatedGrad", { gate, up, dy, ...form }, `${name}.gate`));
    if (wants(up)) give(up, graph.add("gated", { gate, up: dy, ...form }, `${name}.up`));
  },

  softCap({ x, cap }, { graph, out, dy, wants, give }) {
    if (wants(x)) give(x, graph.add("softCapGrad", { y: out, dy, cap }, `d.${out.name}.x`));
  },

  columns({ x, start }, { graph, out, dy, wants, give }) {
    if (!wants(x)) return;
    const width = Number(x.shape[1]);
    give(x, graph.add("spread", { x: dy, start, width }, `d.${out.name}.x`));
  },

  concat({ parts }, { graph, out, dy, wants, give }) {
    let start = 0;
    parts.forEach((part, i) => {
      const size = Number(part.shape[1]);
      if (wants(part)) give(part, sliced(graph, dy, { start, size }, `d.${out.name}.part${i}`));
      start += size;
    });
  },

  regroup({ x, index, inverse }, { graph, out, dy, wants, give }) {
    if (!wants(x)) return;
    give(x, graph.add("regroup", { x: dy, index: inverse, inverse: index }, `d.${out.name}.x`));
  },

  rows({ x, index }, { graph, out, dy, wants, give }) {
    if (!wants(x)) return;
    give(x, graph.add("scatterRows", { x: dy, index, like: x }, `d.${out.name}.x`));
  },

  softmax: none("a softmax is differentiated as part of a loss"),

  nll({ logits, targets, p, x, weight }, { graph, out, dy, wants, give }) {
    if (!wants(logits)) return;
    if (p !== undefined && x !== undefined && weight !== undefined && !wants(weight)) {
      return give(x, graph.add("headGrad", { p, weight, targets, dy }, `d.${out.name}.x`));
    }
    give(logits, graph.add("nllGrad", { logits, targets, dy }, `d.${out.name}.logits`));
  },

  kl({ logits, tokens, shares, p, x, weight }, { graph, out, dy, wants, give }) {
    if (!wants(logits)) return;
    const name = `d.${out.name}`;
    if (p !== undefined && x !== undefined && weight !== undefined && !wants(weight)) {
      const args = { p, weight, tokens, shares, dy };
      return give(x, graph.add("klHeadGrad", args, `${name}.x`));
    }
    give(logits, graph.add("klGrad", { logits, tokens, shares, dy }, `${name}.logits`));
  },

  project({ x, w }, { graph, out, dy, wants, give }) {
    if (wants(x)) give(x, graph.add("projectGrad", { dy, w }, `d.${out.name}.x`));
    if (wants(w)) give(w, graph.add("outer", { a: x, b: dy }, `d.${out.name}.w`));
  },

  coreProduct({ u, cores, grid }, { graph, out, dy, wants, give }) {
    const name = `d.${out.name}`;
    if (wants(u)) {
      give(u, graph.add("coreProductGrad", { dv: dy, cores, grid }, `${name}.u`));
    }
    if (wants(cores)) {
      give(cores, graph.add("coreGrad", { u, dv: dy, cores, grid }, `${name}.cores`));
    }
  },

  relativeBias: none("relativeBias: its table is frozen"),
  attentionMask: none("attentionMask is made of counts"),
  positions: none("positions are counts"),
  headCells: none("headCells are places"),
  headPlaces: none("headPlaces are places"),
  hits: none("hits counts: it is constant almost everywhere"),
  linearGrad: once("linearGrad"),
  rmsNormGrad: once("rmsNormGrad"),
  layerNormGrad: once("layerNormGrad"),
  geluGrad: once("geluGrad"),
  poolGrad: once("poolGrad"),
  bidirectionalAttentionGrad: once("bidirectionalAttentionGrad"),
  gluGrad: once("gluGrad"),
  gatedGrad: once("gatedGrad"),
  softCapGrad: once("softCapGrad"),
  causalAttentionGrad: once("causalAttentionGrad"),
  nllGrad: once("nllGrad"),
  headGrad: once("headGrad"),
  klGrad: once("klGrad"),
  klHeadGrad: once("klHeadGrad"),
  spread: once("spread"),
  scatterRows: once("scatterRows"),
  projectGrad: once("projectGrad"),
  outer: once("outer"),
  coreProductGrad: once("coreProductGrad"),
  coreGrad: once("coreGrad"),
  lotrGrad: once("lotrGrad"),
};

/** Columns start … of a value, the value itself where that is all of it. */
function sliced(
  graph: GraphBuilder,
  x: Value,
  part: { readonly start: number; readonly size: number },
  name: string,
): Value {
  return part.size === x.shape[1] ? x : graph.add("columns", { x, ...part }, name);
}

function frozen(what: string, value: Value, wants: Pulling["wants"]): void {
  if (!wants(value)) return;
  throw new TypeError(`Cannot differentiate by ${value.name}: ${what} is frozen`);
}

function none(reason: string): () => never {
  return () => {
    throw new TypeError(`Cannot differentiate ${reason}`);
  };
}

function once(op: string): () => never {
  return none(`${op}: gradients are taken once, not of gradients`);
}
