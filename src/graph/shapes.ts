/**
 * The shape rule of each operation: what it puts out for its arguments, or why they do not fit. The
 * table is total.
 */
import type { OpName, Ops, Shape, Value } from "./ops.ts";
import type { DType } from "../runtime/device.ts";

/** What a node puts out. */
export interface Inferred {
  readonly dtype: DType;
  readonly shape: Shape;
}

type ShapeRule<K extends OpName> = (args: Ops[K]) => Inferred;

/** The shape rule of each operation. */
export const SHAPES: { readonly [K in OpName]: ShapeRule<K> } = {
  embed({ ids, table }) {
    expect("embed", ids.dtype === "int32" && ids.shape.length === 1, "ids [T] int32", ids);
    expect("embed", table.shape.length === 2, "table [V, d]", table);
    return float([ids.shape[0], table.shape[1]]);
  },
  rmsNorm({ x, gamma, groups }) {
    const features = matrix("rmsNorm", x);
    const fits = sameShape(gamma.shape, [features / groups]);
    expect("rmsNorm", fits, `gamma [${features / groups}]`, gamma);
    return float(x.shape);
  },
  layerNorm({ x, gamma, beta }) {
    const features = matrix("layerNorm", x);
    for (const scale of [gamma, beta]) {
      expect(
        "layerNorm",
        sameShape(scale.shape, [features]),
        `gamma and beta [${features}]`,
        scale,
      );
    }
    return float(x.shape);
  },
  gelu({ x }) {
    return float([x.shape[0], matrix("gelu", x)]);
  },
  bidirectionalAttention(args) {
    return float([args.qkv.shape[0], bidirectional("bidirectionalAttention", args)]);
  },
  pool({ x, weights }) {
    expect(
      "pool",
      weights.shape.length === 2 && weights.shape[1] === x.shape[0],
      "weights [M, T]",
      weights,
    );
    return float([weights.shape[0], matrix("pool", x)]);
  },
  relativeBias({ table }) {
    const odd = table.shape.length === 2 && Number(table.shape[1]) % 2 === 1;
    expect("relativeBias", odd, "table [H, 2·P - 1]", table);
    return float([1, table.shape[0], "time", "time"]);
  },
  linear({ x, weights, biases }) {
    const features = matrix("linear", x);
    let out = 0;
    for (const weight of weights) {
      const fits = weight.shape.length === 2 && weight.shape[1] === features;
      expect("linear", fits, `weight [d_out, ${features}]`, weight);
      out += Number(weight.shape[0]);
    }
    if (biases.length > 0 && biases.length !== weights.length) {
      throw new TypeError(`linear wants a bias a weight or none: got ${biases.length}`);
    }
    biases.forEach((bias, i) => {
      const fits = bias.shape[0] === weights[i]?.shape[0];
      expect("linear", fits, `bias [${weights[i]?.shape[0]}]`, bias);
    });
    return float([x.shape[0], out]);
  },
  lotr({ x, y, a, cores, b, offsets }) {
    const features = matrix("lotr", x);
    const width = matrix("lotr", y);
    const rank = Number(a.shape[1]);
    expect("lotr", sameShape(a.shape, [features, rank]), `a [${features}, r]`, a);
    const fits = sameShape(cores.shape.slice(1), [rank, b.length * rank]);
    expect("lotr", fits, `cores [N, ${rank}, ${b.length * rank}]`, cores);
    b.forEach((factor, i) => {
      const end = (offsets[i] ?? NaN) + Number(factor.shape[1]);
      const good = factor.shape[0] === rank && end <= width;
      expect("lotr", good, `b [${rank}, d_m] within ${width} columns`, factor);
    });
    return float(y.shape);
  },
  lora({ x, y, a, b, offsets, cells, places }) {
    const features = matrix("lora", x);
    const width = matrix("lora", y);
    const isIndex = ({ dtype, shape }: Value, size: number) =>
      dtype === "int32" && shape.length === size;
    expect("lora", isIndex(cells, 3), "cells [K, R, W] int32", cells);
    expect("lora", isIndex(places, 2), "places [T, P] int32", places);
    a.forEach((factor, m) => {
      const rank = Number(factor.shape[3]);
      const fits = sameShape(factor.shape.slice(1), [1, features, rank]);
      expect("lora", fits, `a [K, 1, ${features}, p]`, factor);
      const other = b[m];
      if (other === undefined) throw new TypeError("lora wants a b for each a");
      const size = Number(other.shape[3]);
      const end = (offsets[m] ?? NaN) + size;
      const good = sameShape(other.shape.slice(1), [1, rank, size]) && end <= width;
      expect("lora", good, `b [K, 1, ${rank}, d_m] within ${width} columns`, other);
    });
    return float(y.shape);
  },
  attention({ qkv, keys, values, lengths, total, cos, sin, heads, kvHeads, headDim }) {
    const width = (heads + 2 * kvHeads) * headDim;
    expect("attention", matrix("attention", qkv) === width, `qkv [T, ${width}]`, qkv);
    for (const cache of [keys, values]) {
      const [, kv, , dim] = cache.shape;
      expect("attention", kv === kvHeads && dim === headDim, "cache [N, KV, S, D]", cache);
    }
    for (const table of [cos, sin]) {
      const fits = Number(table.shape[1]) <= headDim / 2;
      expect("attention", fits, `table [P, at most ${headDim / 2}]`, table);
    }
    for (const counts of [lengths, total]) {
      expect("attention", counts.dtype === "int32", "int32 counts", counts);
    }
    return float([qkv.shape[0], heads * headDim]);
  },
  add({ a, b }) {
    expect("add", sameShape(a.shape, b.shape), showShape(a.shape), b);
    return float(a.shape);
  },
  glu({ x }) {
    return float([x.shape[0], matrix("glu", x) / 2]);
  },
  gated({ gate, up }) {
    expect("gated", sameShape(gate.shape, up.shape), showShape(gate.shape), up);
    return float([gate.shape[0], matrix("gated", gate)]);
  },
  softCap({ x }) {
    matrix("softCap", x);
    return float(x.shape);
  },
  columns({ x, start, size }) {
    expect("columns", start + size <= matrix("columns", x), `${start + size} columns or more`, x);
    return float([x.shape[0], size]);
  },
  concat({ parts }) {
    const width = parts.reduce((sum, part) => sum + matrix("concat", part), 0);
    return float([parts[0]?.shape[0], width]);
  },
  rows({ x, index }) {
    expect("rows", index.dtype === "int32", "index int32", index);
    return float([index.shape[0], matrix("rows", x)]);
  },
  regroup({ x, index, inverse }) {
    for (const rows of [index, inverse]) {
      expect("regroup", rows.dtype === "int32", "rows int32", rows);
    }
    return float([index.shape[0], matrix("regroup", x)]);
  },
  causalAttention({ qkv, heads, kvHeads, headDim }) {
    const width = (heads + 2 * kvHeads) * headDim;
    expect("causalAttention", matrix("causalAttention", qkv) === width, `qkv [T, ${width}]`, qkv);
    return float([qkv.shape[0], heads * headDim]);
  },
  attentionMask({ context, offsets }) {
    for (const counts of [context, offsets]) {
      expect("attentionMask", counts.dtype === "int32", "int32 rows and counts", counts);
    }
    return float([offsets.shape[0], 1, "time", "keys"]);
  },
  positions({ offsets }) {
    expect("positions", offsets.dtype === "int32", "offsets [N] int32", offsets);
    return { dtype: "int64", shape: [offsets.shape[0] ?? "?", "time"] };
  },
  headCells({ cells, count }) {
    expect("headCells", cells.dtype === "int32", "cells [N · time] int32", cells);
    return { dtype: "int64", shape: ["batch", count, "time"] };
  },
  headPlaces({ places, count }) {
    expect("headPlaces", places.dtype === "int32", "places [T] int32", places);
    return { dtype: "int64", shape: [places.shape[0] ?? "?", count] };
  },
  softmax({ x }) {
    return float([x.shape[0], matrix("softmax", x)]);
  },
  nll({ logits, targets }) {
    return lossShape("nll", logits, targets);
  },
  kl({ logits, tokens, shares }) {
    return distilledShape("kl", logits, tokens, shares);
  },
  hits({ logits, targets }) {
    return lossShape("hits", logits, targets);
  },
  linearGrad({ dy, weights }) {
    const outputs = weights.reduce((sum, weight) => sum + Number(weight.shape[0]), 0);
    expect("linearGrad", matrix("linearGrad", dy) === outputs, `dy [T, ${outputs}]`, dy);
    return float([dy.shape[0], weights[0]?.shape[1]]);
  },
  rmsNormGrad({ x, gamma, dy, groups }) {
    const features = matrix("rmsNormGrad", x);
    expect("rmsNormGrad", sameShape(x.shape, dy.shape), showShape(x.shape), dy);
    const fits = sameShape(gamma.shape, [features / groups]);
    expect("rmsNormGrad", fits, `gamma [${features / groups}]`, gamma);
    return float(x.shape);
  },
  layerNormGrad({ x, dy }) {
    expect("layerNormGrad", sameShape(x.shape, dy.shape), showShape(x.shape), dy);
    return float(x.shape);
  },
  geluGrad({ x, dy }) {
    expect("geluGrad", sameShape(x.shape, dy.shape), showShape(x.shape), dy);
    return float(x.shape);
  },
  poolGrad({ weights, dy }) {
    expect("poolGrad", dy.shape[0] === weights.shape[0], `dy [${weights.shape[0]}, d]`, dy);
    return float([weights.shape[1], matrix("poolGrad", dy)]);
  },
  bidirectionalAttentionGrad(args) {
    const width = bidirectional("bidirectionalAttentionGrad", args);
    expect("bidirectionalAttentionGrad", args.dy.shape[1] === width, `dy [T, ${width}]`, args.dy);
    return float(args.qkv.shape);
  },
  gluGrad({ x, dy }) {
    const width = matrix("gluGrad", x) / 2;
    expect("gluGrad", matrix("gluGrad", dy) === width, `dy [T, ${width}]`, dy);
    return float(x.shape);
  },
  gatedGrad({ gate, up, dy }) {
    for (const value of [up, dy]) {
      expect("gatedGrad", sameShape(gate.shape, value.shape), showShape(gate.shape), value);
    }
    return float(gate.shape);
  },
  softCapGrad({ y, dy }) {
    expect("softCapGrad", sameShape(y.shape, dy.shape), showShape(y.shape), dy);
    return float(y.shape);
  },
  causalAttentionGrad({ qkv, out, dy, heads, headDim }) {
    for (const value of [out, dy]) {
      const fits = matrix("causalAttentionGrad", value) === heads * headDim;
      expect("causalAttentionGrad", fits, `[T, ${heads * headDim}]`, value);
    }
    return float(qkv.shape);
  },
  nllGrad({ logits, targets, dy }) {
    lossShape("nllGrad", logits, targets);
    expect("nllGrad", sameShape(dy.shape, targets.shape), showShape(targets.shape), dy);
    return float(logits.shape);
  },
  headGrad({ p, weight, targets, dy }) {
    lossShape("headGrad", p, targets);
    expect("headGrad", sameShape(dy.shape, targets.shape), showShape(targets.shape), dy);
    expect("headGrad", weight.shape[0] === matrix("headGrad", p), `[${p.shape[1]}, d]`, weight);
    return float([p.shape[0], matrix("headGrad", weight)]);
  },
  klGrad({ logits, tokens, shares, dy }) {
    const { shape } = distilledShape("klGrad", logits, tokens, shares);
    expect("klGrad", sameShape(dy.shape, shape), showShape(shape), dy);
    return float(logits.shape);
  },
  klHeadGrad({ p, weight, tokens, shares, dy }) {
    const { shape } = distilledShape("klHeadGrad", p, tokens, shares);
    expect("klHeadGrad", sameShape(dy.shape, shape), showShape(shape), dy);
    const fits = weight.shape[0] === matrix("klHeadGrad", p);
    expect("klHeadGrad", fits, `[${p.shape[1]}, d]`, weight);
    return float([p.shape[0], matrix("klHeadGrad", weight)]);
  },
  spread({ x, start, width }) {
    expect("spread", start + matrix("spread", x) <= width, `at most ${width - start} columns`, x);
    return float([x.shape[0], width]);
  },
  scatterRows({ x, index, like }) {
    expect("scatterRows", index.dtype === "int32", "index int32", index);
    const features = matrix("scatterRows", like);
    expect("scatterRows", matrix("scatterRows", x) === features, `x [R, ${features}]`, x);
    return float(like.shape);
  },
  project({ x, w }) {
    expect("project", w.shape[0] === matrix("project", x), `w [${x.shape[1]}, n]`, w);
    return float([x.shape[0], w.shape[1]]);
  },
  projectGrad({ dy, w }) {
    expect("projectGrad", w.shape[1] === matrix("projectGrad", dy), `w [k, ${dy.shape[1]}]`, w);
    return float([dy.shape[0], w.shape[0]]);
  },
  outer({ a, b }) {
    return float([matrix("outer", a), matrix("outer", b)]);
  },
  coreProduct({ u, cores }) {
    const rank = matrix("coreProduct", u);
    expect("coreProduct", cores.shape[1] === rank, `cores [N, ${rank}, m·r]`, cores);
    return float([u.shape[0], cores.shape[2]]);
  },
  coreProductGrad({ dv, cores }) {
    const width = matrix("coreProductGrad", dv);
    expect("coreProductGrad", cores.shape[2] === width, `cores [N, r, ${width}]`, cores);
    return float([dv.shape[0], cores.shape[1]]);
  },
  coreGrad({ u, dv, cores }) {
    expect("coreGrad", cores.shape[1] === matrix("coreGrad", u), "cores [N, r, m·r]", cores);
    expect("coreGrad", cores.shape[2] === matrix("coreGrad", dv), "cores [N, r, m·r]", cores);
    return float(cores.shape);
  },
  lotrGrad({ dy, b, offsets }) {
    const width = matrix("lotrGrad", dy);
    b.forEach((factor, i) => {
      const end = (offsets[i] ?? NaN) + Number(factor.shape[1]);
      expect("lotrGrad", end <= width, `b [r, d_m] within ${width} columns`, factor);
    });
    return float([dy.shape[0], b.length * Number(b[0]?.shape[0])]);
  },
};

function lossShape(op: string, logits: Value, targets: Value): Inferred {
  matrix(op, logits);
  expect(op, targets.dtype === "int32" && targets.shape.length === 1, "targets [R] int32", targets);
  return float([logits.shape[0]]);
}

function distilledShape(op: string, logits: Value, tokens: Value, shares: Value): Inferred {
  matrix(op, logits);
  const count = matrix(op, tokens);
  expect(op, tokens.dtype === "int32", "tokens [R, K] int32", tokens);
  expect(op, matrix(op, shares) === count + 1, `shares [R, ${count + 1}]`, shares);
  return float([logits.shape[0]]);
}

function float(shape: readonly (Shape[number] | undefined)[]): Inferred {
  return { dtype: "float32", shape: shape.map((dim) => dim ?? "?") };
}

/** Features of a `[T, d]` value. */
/** The width of what a text's attention puts out, H·D. */
function bidirectional(
  op: "bidirectionalAttention" | "bidirectionalAttentionGrad",
  { qkv, lengths, heads, headDim, bias }: Ops["bidirectionalAttention"],
): number {
  const width = heads * headDim;
  expect(op, matrix(op, qkv) === 3 * width, `qkv [T, ${3 * width}]`, qkv);
  expect(op, lengths.dtype === "int32", "lengths [N] int32", lengths);
  if (bias !== undefined) {
    expect(op, bias.shape[1] === heads, `bias [1, ${heads}, time, time]`, bias);
  }
  return width;
}

function matrix(op: string, value: Value): number {
  const features = value.shape[1];
  if (value.shape.length === 2 && typeof features === "number") return features;
  throw new TypeError(`${op} wants [T, d], got ${value.name} ${showShape(value.shape)}`);
}

function expect(op: string, fits: boolean, wanted: string, got: Value): void {
  if (fits) return;
  throw new TypeError(
    `${op} wants ${wanted}, got ${got.name} ${got.dtype} ${showShape(got.shape)}`,
  );
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

export function showShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}
