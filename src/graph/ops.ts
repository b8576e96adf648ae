/**
 * The operations that models and their gradients are made of, each with its formula and its
 * arguments. Tables over them (`shapes.ts`, `pullbacks.ts`, `evaluate.ts`, `lowering.ts`) are
 * total: an operation that one of them lacks does not compile.
 *
 * Activations are two-dimensional, `[tokens, features]`, throughout: `tokens` is batch × time,
 * flattened; `grid` (int64 `[2]` = batch, time) says how, for the operations that care.
 */
import type { DType } from "../runtime/device.ts";

/**
 * Least probability that a `kl` takes a model to leave for tokens that are not its teacher's: one less a
 * float32 sum of near one is no finer.
 */
export const LEAST_REST = 1e-6;

/** A dimension: a number, or the name of one that is known only at run time. */
export type Dim = number | string;
export type Shape = readonly Dim[];

/** A tensor in a graph: an input, a parameter, or what one node puts out. */
export interface Value {
  readonly id: number;
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly kind: "input" | "parameter" | "result";
}

/**
 * What gates go through: silu(x) = x · σ(x), or gelu by tanh (arXiv 1606.08415),
 * x/2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³))).
 */
export type Activation = "silu" | "gelu_tanh";

/** How queries attend: shared by attention's forms. */
export interface AttentionForm {
  /** cos, sin of the rotation, [positions, R/2]: a head's first R dimensions turn, i with i + R/2. */
  readonly cos: Value;
  readonly sin: Value;
  /** Whether 2i turns with 2i + 1 instead. Default false. */
  readonly interleaved?: boolean | undefined;
  readonly grid: Value;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Scores are q·k · scale. */
  readonly scale: number;
  /** Tokens that a position sees, itself included; undefined = all before it. */
  readonly window: number | undefined;
  /** Scores s become cap · tanh(s / cap) (Gemma 2, arXiv 2408.00118); undefined = they stay. */
  readonly cap?: number | undefined;
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
  /** `attentionMask` and `positions`, made once for all layers; without them each makes its own. */
  readonly mask?: Value;
  readonly positions?: Value;
}

/**
 * Where the heads of packed tokens lie, for attention on a grid: made once for all layers (`headCells`,
 * `headPlaces`), or by each for itself.
 */
export interface HeadLayout {
  /** Where each cell's queries, keys and values lie among the heads of packed tokens. */
  readonly queryCells: Value;
  readonly keyCells: Value;
  readonly valueCells: Value;
  /** Where each cell's heads lie in the output. */
  readonly outCells: Value;
  /** Where each token's heads lie among those of cells: output heads, and packed q, k and v. */
  readonly outPlaces: Value;
  readonly packedPlaces: Value;
}

/** Attention without caches: rows on a grid that share prefixes, tokens anywhere on it. */
export type CausalForm =
  & AttentionForm
  & Partial<SharedContext>
  & Partial<Layout>
  & Partial<HeadLayout>;

/**
 * Where tokens lie on a grid that is wider than its rows: token t in cell places[t], and in cell c the
 * token cells[c]. An empty cell names a padding token, which lies in an empty cell, is seen by no other
 * token and carries no loss.
 */
export interface Layout {
  /** [N · time] int32. */
  readonly cells: Value;
  /** [T] int32. */
  readonly places: Value;
}

/**
 * How a text's tokens attend to all of its own: texts on a grid, each from the start of its row, its
 * first lengths[n] cells its tokens. What the cells behind them name is not looked at.
 */
export interface BidirectionalForm extends Partial<Layout> {
  readonly grid: Value;
  /** [N] int32: tokens of each row, at least 1. */
  readonly lengths: Value;
  readonly heads: number;
  readonly headDim: number;
  /** Scores are q·k · scale + bias. */
  readonly scale: number;
  /** [1, H, time, time], added to scores (`relativeBias`). */
  readonly bias?: Value;
}

/** x · Φ(x), or the same with a tanh in Φ's place (arXiv 1606.08415). */
export type GeluForm = "exact" | "tanh";

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
  /** `out = (x - mean) / sqrt(variance + eps) · gamma + beta` (arXiv 1607.06450): x [T, d]. */
  readonly layerNorm: {
    readonly x: Value;
    readonly gamma: Value;
    readonly beta: Value;
    readonly eps: number;
  };
  /** x [T, d] → [T, d]. */
  readonly gelu: { readonly x: Value; readonly form: GeluForm };
  /** qkv [T, 3·H·D] → [T, H·D]. Without a layout token t lies in cell t. */
  readonly bidirectionalAttention: BidirectionalForm & { readonly qkv: Value };
  /**
   * `out[0, h, i, j] = table[h, j - i + P - 1]`: a bias by distance (arXiv 1910.10683, section 2.1), of
   * up to P positions: table [H, 2·P - 1] → [1, H, time, time].
   */
  readonly relativeBias: { readonly table: Value; readonly grid: Value };
  /** `out = weights · x`, vectors as weighted sums of tokens: weights [M, T], x [T, d] → [M, d]. */
  readonly pool: { readonly x: Value; readonly weights: Value };
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
   * by side, scale folded in), each b [r, d_m]. Without a layout token t lies in cell t.
   */
  readonly lotr: Partial<Layout> & {
    readonly x: Value;
    readonly y: Value;
    readonly a: Value;
    readonly cores: Value;
    readonly b: readonly Value[];
    readonly offsets: readonly number[];
    readonly grid: Value;
  };
  /**
   * LoRA's branch (arXiv 2106.09685) of many adapters at once, cut into K pieces of rank p, each for R
   * products of W tokens: cell [k, r, w] holds token cells[k, r, w], and for module m of this site
   * `out[t, offset_m …] = y[t, offset_m …] + Σ_i (x[t] · A_m[k]) · B_m[k]` over the cells places[t, i],
   * counted one by one, k being the piece of each: x [T, d_in], y [T, d_out], cells [K, R, W] and places
   * [T, P] int32, each a [K, 1, d_in, p], each b [K, 1, p, d_m]. Tokens of no adapter lie in cells of a
   * piece of zeros, and what lies in cells that no token names is nobody's.
   */
  readonly lora: {
    readonly x: Value;
    readonly y: Value;
    readonly a: readonly Value[];
    readonly b: readonly Value[];
    readonly offsets: readonly number[];
    readonly cells: Value;
    readonly places: Value;
  };
  /**
   * Rotates q and k (RoFormer, arXiv 2104.09864), writes k and v into the caches at
   * each row's own position and attends causally (arXiv 2305.13245): qkv [T, (H + 2·KV)·D], caches
   * [N, KV, S, D], lengths [N] int32 = tokens in the cache after this step, minus one; total [1]
   * int32 = the largest of lengths + 1; cos, sin [positions, R/2]. Rows of a first prompt
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
   * on the right, which no earlier token sees: qkv [T, (H + 2·KV)·D] → [T, H·D]. Without a layout
   * token t lies in cell t.
   */
  readonly causalAttention: CausalForm & { readonly qkv: Value };
  /** `out = a + b`, same shape. */
  readonly add: { readonly a: Value; readonly b: Value };
  /** `out = f(x[:, :d]) · x[:, d:]` (arXiv 2002.05202): x [T, 2·d] = gate | up → [T, d]; f: default silu. */
  readonly glu: { readonly x: Value; readonly activation?: Activation };
  /** `glu` of two inputs: `out = f(gate) · up`, each [T, d]. */
  readonly gated: { readonly gate: Value; readonly up: Value; readonly activation?: Activation };
  /** `out = cap · tanh(x / cap)` (Gemma 2, arXiv 2408.00118): same shape. */
  readonly softCap: { readonly x: Value; readonly cap: number };
  /** Columns start … start + size - 1 of x [T, d] → [T, size]. */
  readonly columns: { readonly x: Value; readonly start: number; readonly size: number };
  /** Side by side: parts [T, d_i] → [T, Σ d_i]. */
  readonly concat: { readonly parts: readonly Value[] };
  /** `out[i] = x[index[i]]`: x [T, d], index [R] int32 → [R, d]. */
  readonly rows: { readonly x: Value; readonly index: Value };
  /**
   * `rows` with the inverse index, so that its pullback is `rows` too: x [T, d], index [R] and
   * inverse [T] int32 → [R, d]. Where they are not each other's inverse (`Layout`'s padding), the
   * gradient must be 0.
   */
  readonly regroup: { readonly x: Value; readonly index: Value; readonly inverse: Value };
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
  /**
   * `out[n, j, t] = cells[n · time + t] · width + first + j`: where `count` of a token's `width` heads
   * lie, for each cell: cells [N · time] → [N, count, time] int64.
   */
  readonly headCells: {
    readonly cells: Value;
    readonly grid: Value;
    readonly width: number;
    readonly first: number;
    readonly count: number;
  };
  /**
   * `out[t, j] = (n · count + j) · time + c` for a token at column c of row n: where its heads lie among
   * those of cells [N, count, time]: places [T] → [T, count] int64.
   */
  readonly headPlaces: { readonly places: Value; readonly grid: Value; readonly count: number };
  /** Softmax of each row: x [R, V] → [R, V]. */
  readonly softmax: { readonly x: Value };
  /**
   * `out[i] = -log softmax(logits[i])[targets[i]]`: logits [R, V], targets [R] int32 → [R]. Where the
   * graph has p = the softmax, and x and weight with logits = x · weightᵀ, the pullback goes to x
   * directly.
   */
  readonly nll: {
    readonly logits: Value;
    readonly targets: Value;
    readonly p?: Value;
    readonly x?: Value;
    readonly weight?: Value;
  };
  /**
   * Forward KL divergence from a teacher of whom the K likeliest tokens are known and, together, the
   * rest: `out[i] = Σ_j s_j · log(s_j / q_j)`, q the softmax of logits[i] at tokens[i] and, last, what it
   * leaves for all others, at least `LEAST_REST`; a share of 0 adds nothing. logits [R, V], tokens
   * [R, K] int32, each row's its own, shares [R, K + 1], which sum to 1 → [R]. With p, x and weight as
   * in `nll`.
   */
  readonly kl: {
    readonly logits: Value;
    readonly tokens: Value;
    readonly shares: Value;
    readonly p?: Value;
    readonly x?: Value;
    readonly weight?: Value;
  };
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
  /** dx of `layerNorm`: x, dy [T, d], gamma [d] → [T, d]. */
  readonly layerNormGrad: {
    readonly x: Value;
    readonly gamma: Value;
    readonly dy: Value;
    readonly eps: number;
  };
  /** dx of `gelu`: x, dy [T, d] → [T, d]. */
  readonly geluGrad: { readonly x: Value; readonly dy: Value; readonly form: GeluForm };
  /** dx of `pool`: weights [M, T], dy [M, d] → [T, d]. */
  readonly poolGrad: { readonly weights: Value; readonly dy: Value };
  /** dqkv of `bidirectionalAttention`: qkv [T, 3·H·D], dy [T, H·D] → [T, 3·H·D]. */
  readonly bidirectionalAttentionGrad: BidirectionalForm & {
    readonly qkv: Value;
    readonly dy: Value;
  };
  /** dx of `glu`: x [T, 2·d], dy [T, d] → [T, 2·d]. */
  readonly gluGrad: { readonly x: Value; readonly dy: Value; readonly activation?: Activation };
  /** dgate of `gated`: each [T, d] → [T, d]. */
  readonly gatedGrad: {
    readonly gate: Value;
    readonly up: Value;
    readonly dy: Value;
    readonly activation?: Activation;
  };
  /** dx of `softCap` from what it put out: `dy · (1 - (y / cap)²)`. */
  readonly softCapGrad: { readonly y: Value; readonly dy: Value; readonly cap: number };
  /**
   * dqkv of `causalAttention`, probabilities computed again (FlashAttention, arXiv 2205.14135):
   * qkv [T, (H + 2·KV)·D], out and dy [T, H·D] → [T, (H + 2·KV)·D].
   */
  readonly causalAttentionGrad: CausalForm & {
    readonly qkv: Value;
    readonly out: Value;
    readonly dy: Value;
  };
  /** dlogits of `nll`: `(softmax(logits) - onehot(targets)) · dy`: dy [R] → [R, V]. */
  readonly nllGrad: { readonly logits: Value; readonly targets: Value; readonly dy: Value };
  /**
   * dx of `nll` of `x · weightᵀ`: `dy · (p · weight - weight[targets])`: p [R, V], weight [V, d],
   * dy [R] → [R, d].
   */
  readonly headGrad: {
    readonly p: Value;
    readonly weight: Value;
    readonly targets: Value;
    readonly dy: Value;
  };
  /**
   * dlogits of `kl`: `dy · (q_j - s_j)` at the teacher's tokens, `dy · q_j · (1 - s_rest / q_rest)`
   * elsewhere: dy [R] → [R, V].
   */
  readonly klGrad: {
    readonly logits: Value;
    readonly tokens: Value;
    readonly shares: Value;
    readonly dy: Value;
  };
  /**
   * dx of `kl` of `x · weightᵀ`, with t = s_rest / q_rest:
   * `dy · ((1 - t) · p · weight + Σ_j (t · q_j - s_j) · weight[tokens_j])`: p [R, V], weight [V, d],
   * dy [R] → [R, d].
   */
  readonly klHeadGrad: {
    readonly p: Value;
    readonly weight: Value;
    readonly tokens: Value;
    readonly shares: Value;
    readonly dy: Value;
  };
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
