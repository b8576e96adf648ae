/** Attention with caches for the evaluator: one query at a time, by the formula. */
import { columnsOf, type Evaluated, type Lookup, zeros } from "./evaluate_arrays.ts";
import type { AttentionForm, Ops } from "../ops.ts";

/** Writes the caches in place, as a device does. */
export function attention(args: Ops["attention"], at: Lookup): Evaluated {
  const [batch, time] = at(args.grid).data;
  const { heads, kvHeads, headDim } = args;
  const qkv = Float64Array.from(at(args.qkv).data);
  const width = (heads + 2 * kvHeads) * headDim;
  const out = zeros([batch * time, heads * headDim]);
  const total = at(args.total).data[0];
  for (let row = 0; row < batch; row++) {
    const end = at(args.lengths).data[row] + 1;
    const past = time === total ? 0 : end - time;
    for (let t = 0; t < time && past + t < end; t++) {
      const token = qkv.subarray((row * time + t) * width, (row * time + t + 1) * width);
      for (let h = 0; h < heads + kvHeads; h++) {
        rotate(token.subarray(h * headDim, (h + 1) * headDim), past + t, turnOf(args, at));
      }
      store(args, at, token, row, past + t);
      for (let h = 0; h < heads; h++) {
        attend(
          args,
          at,
          token,
          { row, position: past + t, head: h },
          out.data.subarray(
            ((row * time + t) * heads + h) * headDim,
            ((row * time + t) * heads + h + 1) * headDim,
          ),
        );
      }
    }
  }
  return out;
}

/** Where head `kv` of a row's `position` begins in a cache. */
function cacheOffset(cache: Evaluated, row: number, kv: number, position: number): number {
  const [, kvHeads, capacity, dim] = cache.shape;
  return ((row * kvHeads + kv) * capacity + position) * dim;
}

function store(
  args: Ops["attention"],
  at: Lookup,
  token: Float64Array,
  row: number,
  position: number,
): void {
  const { heads, kvHeads, headDim } = args;
  const caches = [at(args.keys), at(args.values)];
  caches.forEach((cache, i) => {
    for (let kv = 0; kv < kvHeads; kv++) {
      const start = (heads + i * kvHeads + kv) * headDim;
      cache.data.set(
        token.subarray(start, start + headDim),
        cacheOffset(cache, row, kv, position),
      );
    }
  });
}

function attend(
  args: Ops["attention"],
  at: Lookup,
  token: Float64Array,
  where: { readonly row: number; readonly position: number; readonly head: number },
  out: Float64Array,
): void {
  const { heads, kvHeads, headDim, scale, window } = args;
  const { row, position, head } = where;
  const kv = Math.floor(head / (heads / kvHeads));
  const [keys, values] = [at(args.keys), at(args.values)];
  const first = window === undefined ? 0 : Math.max(0, position - window + 1);
  const scores: number[] = [];
  for (let p = first; p <= position; p++) {
    const k = cacheOffset(keys, row, kv, p);
    let sum = 0;
    for (let i = 0; i < headDim; i++) sum += token[head * headDim + i] * keys.data[k + i];
    scores.push(capped(sum * scale, args.cap));
  }
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const norm = weights.reduce((sum, weight) => sum + weight, 0);
  weights.forEach((weight, i) => {
    const v = cacheOffset(values, row, kv, first + i);
    for (let d = 0; d < headDim; d++) out[d] += weight / norm * values.data[v + d];
  });
}

/** A score s as cap · tanh(s / cap), where there is a cap. */
export function capped(score: number, cap: number | undefined): number {
  return cap === undefined ? score : cap * Math.tanh(score / cap);
}

/** A rotation by position, [positions, R/2] each. */
export interface Rotation {
  readonly cos: Evaluated;
  readonly sin: Evaluated;
  readonly interleaved: boolean;
}

export function turnOf(
  { cos, sin, interleaved = false }: Pick<AttentionForm, "cos" | "sin" | "interleaved">,
  at: Lookup,
): Rotation {
  return { cos: at(cos), sin: at(sin), interleaved };
}

/** Rotates a head's first R dimensions in pairs, in place. */
export function rotate(head: Float64Array, position: number, by: Rotation): void {
  const half = columnsOf(by.cos);
  for (let i = 0; i < half; i++) {
    const [c, s] = [by.cos.data[position * half + i], by.sin.data[position * half + i]];
    const [first, second] = by.interleaved ? [2 * i, 2 * i + 1] : [i, i + half];
    const [a, b] = [head[first], head[second]];
    head[first] = a * c - b * s;
    head[second] = b * c + a * s;
  }
}
