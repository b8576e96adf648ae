/**
 * The evaluator's rules of following a teacher: the KL divergence by its K likeliest tokens and the rest,
 * and its gradients, by their formulas.
 */
import { LEAST_REST } from "../ops.ts";
import { columnsOf, type Evaluated, type Rules, zeros } from "./evaluate_arrays.ts";

/** What a row of a student leaves for its teacher's tokens, and what the teacher says of them. */
interface Compared {
  /** The student's probabilities of all tokens. */
  readonly q: readonly number[];
  /** Of the teacher's tokens and, last, of all others. */
  readonly theirs: readonly number[];
  readonly shares: readonly number[];
  readonly tokens: readonly number[];
  /** Of the others: the teacher's share over the student's. */
  readonly ratio: number;
}

export const DISTILLATION_RULES: Rules<"kl" | "klGrad" | "klHeadGrad"> = {
  kl({ logits, tokens, shares }, at) {
    const rows = rowsOf(at(logits)).map(softmax);
    const data = compare(rows, at(tokens), at(shares)).map(({ theirs, shares }) =>
      shares.reduce((sum, s, i) => s === 0 ? sum : sum + s * Math.log(s / theirs[i]), 0)
    );
    return { shape: [data.length], data: Float64Array.from(data) };
  },
  klGrad({ logits, tokens, shares, dy }, at) {
    const rows = rowsOf(at(logits)).map(softmax);
    const data = compare(rows, at(tokens), at(shares)).flatMap((row, i) =>
      gradient(row).map((value) => value * at(dy).data[i])
    );
    return { shape: at(logits).shape, data: Float64Array.from(data) };
  },
  klHeadGrad({ p, weight, tokens, shares, dy }, at) {
    const weights = rowsOf(at(weight));
    const width = columnsOf(at(weight));
    const out = zeros([at(p).shape[0], width]);
    compare(rowsOf(at(p)), at(tokens), at(shares)).forEach((row, i) => {
      gradient(row).forEach((value, j) => {
        for (let d = 0; d < width; d++) {
          out.data[i * width + d] += value * at(dy).data[i] * weights[j][d];
        }
      });
    });
    return out;
  },
};

function compare(rows: readonly number[][], tokens: Evaluated, shares: Evaluated): Compared[] {
  const [ids, given] = [rowsOf(tokens), rowsOf(shares)];
  return rows.map((q, i) => {
    const own = ids[i].map((id) => q[id]);
    const rest = Math.max(LEAST_REST, 1 - own.reduce((sum, value) => sum + value, 0));
    const ratio = given[i][own.length] / rest;
    return { q, theirs: [...own, rest], shares: given[i], tokens: ids[i], ratio };
  });
}

/** By the row's logits. */
function gradient({ q, shares, tokens, ratio }: Compared): number[] {
  const others = q.map((value) => value * (1 - ratio));
  tokens.forEach((id, j) => others[id] = q[id] - shares[j]);
  return others;
}

function softmax(row: readonly number[]): number[] {
  const top = Math.max(...row);
  const exps = row.map((value) => Math.exp(value - top));
  const sum = exps.reduce((sum, value) => sum + value, 0);
  return exps.map((value) => value / sum);
}

function rowsOf({ shape: [count], data }: Evaluated): number[][] {
  const width = data.length / count;
  return Array.from(
    { length: count },
    (_, i) => Array.from(data.subarray(i * width, (i + 1) * width)),
  );
}
