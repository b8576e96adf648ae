/**
 * Attention without caches for the evaluator, and its pullback: one query at a time, by the
 * formula.
 */
import type { CausalForm, Ops } from "../ops.ts";
import {
  columnsOf,
  type Evaluated,
  type Filling,
  type Lookup,
  takeRows,
  zeros,
} from "./evaluate_arrays.ts";
import { capped, rotate, type Rotation, turnOf } from "./evaluate_attention.ts";

export function causalAttention(args: Ops["causalAttention"], at: Lookup): Evaluated {
  const { heads, headDim } = args;
  const qkv = rotated(args, onGrid(args, at(args.qkv), at), at);
  const out = zeros([qkv.shape[0], heads * headDim]);
  forEachQuery(args, at, (query) => {
    const weights = probabilities(args, qkv, query);
    weights.forEach((weight, i) => {
      const v = valueOffset(args, query, i);
      for (let d = 0; d < headDim; d++) out.data[query.out + d] += weight * qkv.data[v + d];
    });
  });
  return ofTokens(args, out, at);
}

/**
 * With p = softmax(s) and dp_i = dy · v_i: ds_i = p_i · (dp_i - Σ p · dp), from there to q and k by
 * the product's rule and the rotation's transpose. Key and value heads add up over their queries.
 */
export function causalAttentionGrad(args: Ops["causalAttentionGrad"], at: Lookup): Evaluated {
  const { headDim, scale } = args;
  const qkv = rotated(args, onGrid(args, at(args.qkv), at), at);
  const dy = onGrid(args, at(args.dy), at).data;
  const grad = zeros(qkv.shape);
  forEachQuery(args, at, (query) => {
    const p = probabilities(args, qkv, query);
    const dp = p.map((_, i) => {
      const v = valueOffset(args, query, i);
      return sum(headDim, (d) => dy[query.out + d] * qkv.data[v + d]);
    });
    const mean = sum(p.length, (i) => p[i] * dp[i]);
    const scores = scoresOf(args, qkv, query);
    p.forEach((weight, i) => {
      const bent = args.cap === undefined ? 0 : scores[i] / args.cap;
      const ds = weight * (dp[i] - mean) * (1 - bent ** 2) * scale;
      const [k, v] = [keyOffset(args, query, i), valueOffset(args, query, i)];
      for (let d = 0; d < headDim; d++) {
        grad.data[query.q + d] += ds * qkv.data[k + d];
        grad.data[k + d] += ds * qkv.data[query.q + d];
        grad.data[v + d] += weight * dy[query.out + d];
      }
    });
  });
  const turn = turnOf(args, at);
  rotateHeads(args, grad, at, { ...turn, sin: negated(turn.sin) });
  return ofTokens(args, grad, at);
}

/** Tokens [T, d] as cells [N · time, d]. */
function onGrid({ cells }: Form, tokens: Evaluated, at: Lookup): Evaluated {
  return cells === undefined ? tokens : takeRows(tokens, at(cells));
}

/** The way back. */
function ofTokens({ places }: Form, cells: Evaluated, at: Lookup): Evaluated {
  return places === undefined ? cells : takeRows(cells, at(places));
}

/** What each token of a row sees: of what is shared, then of its own. */
export function attentionMask(args: Ops["attentionMask"], at: Lookup): Evaluated {
  const { context, offsets, grid, window = Infinity } = args;
  const [batch, time] = Array.from(at(grid).data, Number);
  const shared = columnsOf(at(context)) * time;
  const keys = shared + time;
  const out = zeros([batch, 1, time, keys]);
  out.data.forEach((_, i) => {
    const [row, t, key] = [Math.floor(i / (time * keys)), Math.floor(i / keys) % time, i % keys];
    const before = at(offsets).data[row];
    const position = key < shared ? key : before + key - shared;
    const there = key < shared ? key < before : key - shared <= t;
    out.data[i] = there && before + t - position < window ? 0 : -Infinity;
  });
  return out;
}

/** Where one head of one token lies, in numbers from the start. */
interface Query {
  /** Of the head in [T, (H + 2·KV)·D]. */
  readonly q: number;
  /** Of the head in [T, H·D]. */
  readonly out: number;
  /** Where each token that it sees begins in [T, (H + 2·KV)·D], itself last. */
  readonly seen: readonly number[];
  /** Its key and value head. */
  readonly kv: number;
}

type Form = CausalForm;

function forEachQuery(form: Form, at: Lookup, visit: (query: Query) => void): void {
  const { heads, kvHeads, headDim, window } = form;
  const [batch, time] = Array.from(at(form.grid).data, Number);
  const width = (heads + 2 * kvHeads) * headDim;
  for (let token = 0; token < batch * time; token++) {
    const row = Math.floor(token / time);
    const own = Array.from({ length: token % time + 1 }, (_, i) => row * time + i);
    const all = [...sharedTokens(form, at, row), ...own];
    const seen = all.slice(window === undefined ? 0 : -window).map((index) => index * width);
    for (let head = 0; head < heads; head++) {
      visit({
        q: token * width + head * headDim,
        out: (token * heads + head) * headDim,
        seen,
        kv: Math.floor(head / (heads / kvHeads)),
      });
    }
  }
}

/** The tokens before a row's own. */
function sharedTokens({ grid, context, offsets }: Form, at: Lookup, row: number): number[] {
  if (context === undefined || offsets === undefined) return [];
  const time = Number(at(grid).data[1]);
  const rows = at(context);
  const first = row * columnsOf(rows);
  return Array.from(
    { length: at(offsets).data[row] },
    (_, i) => rows.data[first + Math.floor(i / time)] * time + i % time,
  );
}

function keyOffset({ heads, headDim }: Form, { seen, kv }: Query, i: number): number {
  return seen[i] + (heads + kv) * headDim;
}

function valueOffset(form: Form, query: Query, i: number): number {
  return keyOffset(form, query, i) + form.kvHeads * form.headDim;
}

function negated({ shape, data }: Evaluated): Evaluated {
  return { shape, data: Float64Array.from(data, (x) => -x) };
}

function scoresOf(form: Form, { data }: Evaluated, query: Query): number[] {
  return query.seen.map((_, i) => {
    const k = keyOffset(form, query, i);
    const score = form.scale * sum(form.headDim, (d) => data[query.q + d] * data[k + d]);
    return capped(score, form.cap);
  });
}

function probabilities(form: Form, qkv: Evaluated, query: Query): number[] {
  const scores = scoresOf(form, qkv, query);
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const norm = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / norm);
}

/** A copy with queries and keys rotated. */
function rotated(form: Form, { shape, data }: Evaluated, at: Lookup): Filling {
  const copy = { shape, data: Float64Array.from(data) };
  rotateHeads(form, copy, at, turnOf(form, at));
  return copy;
}

function rotateHeads(form: Form, tokens: Filling, at: Lookup, by: Rotation): void {
  const { heads, kvHeads, headDim } = form;
  const time = Number(at(form.grid).data[1]);
  const width = columnsOf(tokens);
  for (let token = 0; token < tokens.shape[0]; token++) {
    for (let h = 0; h < heads + kvHeads; h++) {
      const start = token * width + h * headDim;
      const shared = form.offsets === undefined
        ? 0
        : at(form.offsets).data[Math.floor(token / time)];
      const position = shared + token % time;
      rotate(tokens.data.subarray(start, start + headDim), position, by);
    }
  }
}

function sum(count: number, term: (i: number) => number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += term(i);
  return total;
}
