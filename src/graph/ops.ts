/**
 * The operations a model is made of, each with its formula, its arguments and its shape rule. The
 * rule table is total: an operation without a rule does not compile. It knows no device.
 *
 * Activations are two-dimensional, `[tokens, features]`, throughout: `tokens` is batch × time,
 * flattened; `grid` (int64 `[2]` = batch, time) says how, for the operations that care.
 */
import { sameShape, type Shape, showShape, type Value } from "./graph.ts";
import type { DType } from "../runtime/device.ts";

/** How rotated queries attend: shared by attention's forms. */
export interface AttentionForm {
  /** cos, sin of the rotation, [positions, D/2]. */
  readonly cos: Value;
  readonly sin: Value;
  readonly grid: Value;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Scores are q·k · scale. */
  readonly scale: number;
  /** Tokens that a position sees, itself included; undefined = all before it. */
  readonly window: number | undefined;
}

/**
 * Prefixes that rows of a batch share, each computed once in a row of its own: row n sees the first
 * offsets[n] tokens of the rows context[n, 0 … C-1], laid end to end, before its own, whose positions
 * begin at offsets[n]. The rows named are full but for the last; those beyond are not looked at.
 */
export interface SharedContext {
  /** [N, C] int32. */
  readonly context: Value;
  /** [N] int32. */
  readonly offsets: Value;
  /** What every layer would make of them again: `attentionMask` and `positions`, made once. */
  readonly mask?: Value;
  readonly positions?: Value;
}

/**
 * Arguments of each operation. Shapes: T tokens, N batch, S cache capacity, H heads, D head size.
 * Names that end in `Grad` are pullbacks: `dy` is the gradient of a scalar by the operation's output.
 */
export interface Ops {
  /** `out[t] = table[ids[t]]`: ids [T] int32, table [V, d] → [T, d]. */
  readonly embed: { readonly ids: Value; readonly table: Value };
  /**
   * `out = x / sqrt(mean(x²) + eps) · gamma` over each of `groups` equal parts of the features
   * (arXiv 1910.07467; groups = heads for Qwen3's QK norm): x [T, groups·d], gamma [d].
   */
  readonly rmsNorm: {
    readonly x: Value;
    readonly gamma: Value;
    readonly eps: number;
    readonly groups: number;
  };
  /**
   * `out = x · concat(weights)ᵀ + concat(biases)`: x [T, d_in], each weight [d_out_i, d_in], each
   * bias [d_out_i] (none, or one a weight) → [T, Σ d_out_i]. Linears that read one input are one node.
   */
  readonly linear: {
    readonly x: Value;
    readonly weights: readonly Value[];
    readonly biases: readonly Value[];
  };
  /**
   * LoTR's branch (arXiv 2402.01376): for module m of this site,
   * `out[:, offset_m …] = y[:, offset_m …] + ((x · A) · G_m) · B_m`, with G of the row of the batch
   * that the token belongs to: x [T, d_in], y [T, d_out], a [d_in, r], cores [N, r, m·r] (G_m side
   * by side, scale folded in), each b [r, d_m].
   */
  readonly lotr: {
    readonly x: Value;
    readonly y: Value;
    readonly a: Value;
    readonly cores: Value;
    readonly b: readonly Value[];
    readonly offsets: readonly number[];
    readonly grid: Value;
  };
  /**
   * Rotates q and k (RoFormer, arXiv 2104.09864, halves apart), writes k and v into the caches at
   * each row's own position and attends causally (arXiv 2305.13245): qkv [T, (H + 2·KV)·D], caches
   * [N, KV, S, D], lengths [N] int32 = tokens in the cache after this step, minus one; total [1]
   * int32 = the largest of lengths + 1; cos, sin [positions, D/2]. Rows of a first prompt
   * (time = total) are padded on the right. Scores are q·k · scale. window = tokens a position sees,
   * itself included. → [T, H·D].
   */
  readonly attention: AttentionForm & {
    readonly qkv: Value;
    readonly keys: Value;
    readonly values: Value;
    readonly lengths: Value;
    readonly total: Value;
  };
  /**
   * The same without caches: every row begins at position 0, or after what it shares, and is padded
   * on the right, which no earlier token sees: qkv [T, (H + 2·KV)·D] → [T, H·D].
   */
  readonly causalAttention: AttentionForm & Partial<SharedContext> & { readonly qkv: Value };
  /** `out = a + b`, same shape. */
  readonly add: { readonly a: Value; readonly b: Value };
  /** `out = silu(x[:, :d]) · x[:, d:]` (arXiv 2002.05202): x [T, 2·d] = gate | up → [T, d]. */
  readonly swiglu: { readonly x: Value };
  /** The same of a gate and what it lets through, apart: `out = silu(gate) · up`, each [T, d]. */
  readonly gated: { readonly gate: Value; readonly up: Value };
  /** Columns start … start + size - 1 of x [T, d] → [T, size]. */
  readonly columns: { readonly x: Value; readonly start: number; readonly size: number };
  /** Side by side: parts [T, d_i] → [T, Σ d_i]. */
  readonly concat: { readonly parts: readonly Value[] };
  /** `out[i] = x[index[i]]`: x [T, d], index [R] int32 → [R, d]. */
  readonly rows: { readonly x: Value; readonly index: Value };
  /** The largest |x| of each feature over all tokens, for calibration: x [T, d] → [d]. */
  readonly channelMax: { readonly x: Value };
  /**
   * 0 where a token sees a key, -inf where not, for rows that share: context [N, C], offsets [N] →
   * [N, 1, time, keys], keys = C·time and then the row's own `time`.
   */
  readonly attentionMask: Omit<SharedContext, "mask" | "positions"> & {
    readonly grid: Value;
    readonly window: number | undefined;
  };
  /** `out[n, t] = offsets[n] + t`: offsets [N] → [N, time] int64. */
  readonly positions: { readonly offsets: Value; readonly grid: Value };
  /** `out[i] = -log softmax(logits[i])[targets[i]]`: logits [R, V], targets [R] int32 → [R]. */
  readonly nll: { readonly logits: Value; readonly targets: Value };
  /** 1 where the target is the largest logit, else 0: logits [R, V], targets [R] int32 → [R]. */
  readonly hits: { readonly logits: Value; readonly targets: Value };

  // ---- what pullbacks are made of ----

  /** `dx = dy · concat(weights)`: dy [T, Σ d_out_i], each weight [d_out_i, d_in] → [T, d_in]. */
  readonly linearGrad: { readonly dy: Value; readonly weights: readonly Value[] };
  /** dx of `rmsNorm`: x, dy [T, groups·d], gamma [d] → [T, groups·d]. */
  readonly rmsNormGrad: {
    readonly x: Value;
    readonly gamma: Value;
    readonly dy: Value;
    readonly eps: number;
    readonly groups: number;
  };
  /** dx of `swiglu`: x [T, 2·d], dy [T, d] → [T, 2·d]. */
  readonly swigluGrad: { readonly x: Value; readonly dy: Value };
  /** dgate of `gated`: each [T, d] → [T, d]. */
  readonly gatedGrad: { readonly gate: Value; readonly up: Value; readonly dy: Value };
  /**
   * dqkv of `causalAttention`, probabilities computed again (FlashAttention, arXiv 2205.14135):
   * qkv [T, (H + 2·KV)·D], out and dy [T, H·D] → [T, (H + 2·KV)·D].
   */
  readonly causalAttentionGrad: AttentionForm & Partial<SharedContext> & {
    readonly qkv: Value;
    readonly out: Value;
    readonly dy: Value;
  };
  /** dlogits of `nll`: `(softmax(logits) - onehot(targets)) · dy`: dy [R] → [R, V]. */
  readonly nllGrad: { readonly logits: Value; readonly targets: Value; readonly dy: Value };
  /** dx of `columns`: x [T, size] at columns start … of zeros → [T, width]. */
  readonly spread: { readonly x: Value; readonly start: number; readonly width: number };
  /** dx of `rows`: adds x[i] to row index[i] of zeros shaped like `like`: x [R, d] → [T, d]. */
  readonly scatterRows: { readonly x: Value; readonly index: Value; readonly like: Value };
  /** `out = x · w`: x [T, k], w [k, n] → [T, n]. */
  readonly project: { readonly x: Value; readonly w: Value };
  /** `out = y · wᵀ`: y [T, n], w [k, n] → [T, k]. */
  readonly projectGrad: { readonly dy: Value; readonly w: Value };
  /** `out = aᵀ · b`, summed over tokens: a [T, m], b [T, n] → [m, n]. */
  readonly outer: { readonly a: Value; readonly b: Value };
  /** `v = u · G` by row: u [T, r], cores [N, r, m·r] → [T, m·r]. */
  readonly coreProduct: { readonly u: Value; readonly cores: Value; readonly grid: Value };
  /** `du = dv · Gᵀ` by row: dv [T, m·r], cores [N, r, m·r] → [T, r]. */
  readonly coreProductGrad: { readonly dv: Value; readonly cores: Value; readonly grid: Value };
  /** `dG = uᵀ · dv` by row: u [T, r], dv [T, m·r] → [N, r, m·r]. */
  readonly coreGrad: {
    readonly u: Value;
    readonly dv: Value;
    /** The cores, for their shape. */
    readonly cores: Value;
    readonly grid: Value;
  };
  /** `dv_m = dy[:, offset_m …] · B_mᵀ`, side by side: dy [T, d_out], each b [r, d_m] → [T, m·r]. */
  readonly lotrGrad: {
    readonly dy: Value;
    readonly b: readonly Value[];
    readonly offsets: readonly number[];
  };
}

export type OpName = keyof Ops;

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
  attention({ qkv, keys, values, lengths, total, cos, sin, heads, kvHeads, headDim }) {
    const width = (heads + 2 * kvHeads) * headDim;
    expect("attention", matrix("attention", qkv) === width, `qkv [T, ${width}]`, qkv);
    for (const cache of [keys, values]) {
      const [, kv, , dim] = cache.shape;
      expect("attention", kv === kvHeads && dim === headDim, "cache [N, KV, S, D]", cache);
    }
    for (const table of [cos, sin]) {
      expect("attention", table.shape[1] === headDim / 2, `table [P, ${headDim / 2}]`, table);
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
  swiglu({ x }) {
    return float([x.shape[0], matrix("swiglu", x) / 2]);
  },
  gated({ gate, up }) {
    expect("gated", sameShape(gate.shape, up.shape), showShape(gate.shape), up);
    return float([gate.shape[0], matrix("gated", gate)]);
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
  channelMax({ x }) {
    return float([matrix("channelMax", x)]);
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
  nll({ logits, targets }) {
    return lossShape("nll", logits, targets);
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
  swigluGrad({ x, dy }) {
    const width = matrix("swigluGrad", x) / 2;
    expect("swigluGrad", matrix("swigluGrad", dy) === width, `dy [T, ${width}]`, dy);
    return float(x.shape);
  },
  gatedGrad({ gate, up, dy }) {
    for (const value of [up, dy]) {
      expect("gatedGrad", sameShape(gate.shape, value.shape), showShape(gate.shape), value);
    }
    return float(gate.shape);
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

function float(shape: readonly (Shape[number] | undefined)[]): Inferred {
  return { dtype: "float32", shape: shape.map((dim) => dim ?? "?") };
}

/** Features of a `[T, d]` value. */
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
