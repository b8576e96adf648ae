/** Block Krylov iteration against a whole decomposition, on spectra as flat as LoRAs' are. */
import { assertAlmostEquals, assertEquals, assertLess } from "@std/assert";
import { BlockKrylov } from "../../../../adapters/lotr/joint/krylov.ts";
import {
  type Dense,
  dense,
  leadingEigenvectors,
  multiply,
  orthonormal,
  transpose,
} from "../../../../adapters/lotr/linalg.ts";
import { gaussian } from "../../../../src/util/random.ts";
import { maxDifference } from "../../small.ts";

/** Q·diag(values)·Qᵀ of a random Q. */
function withSpectrum(values: readonly number[]): Dense {
  const n = values.length;
  const q = orthonormal(dense(n, n, gaussian(7, 7, n * n)));
  const scaled = { ...q, data: q.data.map((value, i) => value * values[i % n]) };
  return multiply(scaled, transpose(q));
}

function found(sum: Dense, rank: number, passes: number): Dense {
  const krylov = new BlockKrylov(sum.rows, 3 * rank, 3, 1);
  for (let pass = 0; pass < passes; pass++) krylov.add(multiply(sum, krylov.block));
  return krylov.leading(rank);
}

/** The trace of vᵀ·sum·v over the trace of the sum. */
function share(sum: Dense, vectors: Dense): number {
  const trace = ({ rows, data }: Dense) =>
    Array.from({ length: rows }, (_, i) => data[i * rows + i]).reduce((a, b) => a + b);
  return trace(multiply(transpose(vectors), multiply(sum, vectors))) / trace(sum);
}

Deno.test("four applications find what the leading eigenvectors hold, within 1e-5", () => {
  const spectra: readonly ((i: number) => number)[] = [
    (i) => 1 / (1 + i),
    (i) => 1 / Math.sqrt(1 + i),
    (i) => 0.97 ** i,
  ];
  for (const spectrum of spectra) {
    const sum = withSpectrum(Array.from({ length: 200 }, (_, i) => spectrum(i)));
    const best = leadingEigenvectors(sum, 12);
    const vectors = found(sum, 12, 4);
    assertAlmostEquals(share(sum, vectors), best.share, 1e-5);
    const gram = multiply(transpose(vectors), vectors);
    assertLess(
      maxDifference(gram.data, gram.data.map((_, i) => i % 13 === 0 ? 1 : 0)),
      1e-9,
    );
  }
});

Deno.test("a sum of low rank is found whole, and nothing is left to apply it to", () => {
  const sum = withSpectrum(Array.from({ length: 30 }, (_, i) => i < 3 ? 3 - i : 0));
  const krylov = new BlockKrylov(30, 12, 0, 0);
  for (let pass = 0; pass < 4; pass++) krylov.add(multiply(sum, krylov.block));
  assertEquals(krylov.block.columns, 0);
  assertAlmostEquals(share(sum, krylov.leading(3)), 1, 1e-9);
  assertEquals(krylov.leading(4).columns, 4);
});
