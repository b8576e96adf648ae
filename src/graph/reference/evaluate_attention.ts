/** Attention with caches for the evaluator: one query at a time, by the formula. */
import { type Evaluated, type Lookup, zeros } from "./evaluate_arrays.ts";
import type { Ops } from "../ops.ts";

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
        rotate(
          token.subarray(h * headDim, (h + 1) * headDim),
          past + t,
          at(args.cos),
          at(args.sin),
        );
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
    scores.push(sum * scale);
  }
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const norm = weights.reduce((sum, weight) => sum + weight, 0);
  weights.forEach((weight, i) => {
    const v = cacheOffset(values, row, kv, first + i);
    for (let d = 0; d < headDim; d++) out[d] += weight / norm * values.data[v + d];
  });
}

/** Rotates dimension i with dimension i + D/2, in place. */
export function rotate(head: Float64Array, position: number, cos: Evaluated, sin: Evaluated): void {
  const half = head.length / 2;
  for (let i = 0; i < half; i++) {
    const [c, s] = [cos.data[position * half + i], sin.data[position * half + i]];
    const [a, b] = [head[i], head[i + half]];
    head[i] = a * c - b * s;
    head[i + half] = b * c + a * s;
  }
}
