/**
 * The leading eigenvectors of a symmetric sum that is too large to be formed and is only applied to
 * blocks: randomised block Krylov iteration (Musco and Musco 2015) with Rayleigh and Ritz at the
 * end. The trap: an application is a pass over every LoRA, so the few that there are count.
 */
import { gaussian } from "../../../src/util/random.ts";
import { type Dense, leadingEigenvectors, multiply, transpose } from "../linalg.ts";

/** A column is dropped where less than this of its norm is new. */
const NOTHING_NEW = 1e-9;

/** Collects span{Ω, S·Ω, S²·Ω, …} of a sum S [n, n]. */
export class BlockKrylov {
  readonly #size: number;
  /** Orthonormal vectors of n elements, and what S makes of those that were applied. */
  readonly #vectors: Float64Array[];
  readonly #images: Float64Array[] = [];

  /** @param size n; @param width columns of a block; both bound what is drawn from the stream */
  constructor(size: number, width: number, seed: number, stream: number) {
    this.#size = size;
    const drawn = gaussian(seed, stream, size * Math.min(size, width));
    this.#vectors = [];
    for (let at = 0; at < drawn.length; at += size) this.#extend(drawn.slice(at, at + size));
  }

  /** The block to apply the sum to next, [n, b]; b is 0 where nothing new is left. */
  get block(): Dense {
    return columnsOf(this.#size, this.#vectors.slice(this.#images.length));
  }

  /** @param image S times the block */
  add(image: Dense): void {
    const rows = transpose(image);
    for (let i = 0; i < rows.rows; i++) {
      const vector = rows.data.slice(i * this.#size, (i + 1) * this.#size);
      this.#images.push(vector.slice());
      this.#extend(vector);
    }
  }

  /** [n, count], orthonormal, by falling share of the sum within the span that was applied. */
  leading(count: number): Dense {
    const applied = this.#vectors.slice(0, this.#images.length);
    const basis = columnsOf(this.#size, applied);
    const images = columnsOf(this.#size, this.#images);
    const within = multiply(transpose(basis), images);
    return multiply(basis, leadingEigenvectors(symmetric(within), count).vectors);
  }

  /** Takes what is new of a vector; twice, since once leaves rounding behind. */
  #extend(vector: Float64Array): void {
    const before = norm(vector);
    for (let turn = 0; turn < 2; turn++) {
      for (const known of this.#vectors) subtract(vector, known, dot(vector, known));
    }
    const left = norm(vector);
    if (left <= NOTHING_NEW * before || this.#vectors.length === this.#size) return;
    this.#vectors.push(vector.map((value) => value / left));
  }
}

function columnsOf(rows: number, vectors: readonly Float64Array[]): Dense {
  const data = new Float64Array(rows * vectors.length);
  vectors.forEach((vector, i) => data.set(vector, i * rows));
  return transpose({ rows: vectors.length, columns: rows, data });
}

/** (m + mᵀ) / 2. */
function symmetric(m: Dense): Dense {
  const other = transpose(m).data;
  return { ...m, data: m.data.map((value, i) => (value + other[i]) / 2) };
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function norm(a: Float64Array): number {
  return Math.sqrt(dot(a, a));
}

function subtract(from: Float64Array, what: Float64Array, times: number): void {
  for (let i = 0; i < from.length; i++) from[i] -= times * what[i];
}
