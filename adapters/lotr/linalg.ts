/**
 * Dense products of row-major matrices in double precision, and the few decompositions that factor
 * makers and projections need, from ml-matrix.
 */
import {
  EigenvalueDecomposition,
  Matrix,
  pseudoInverse,
  QrDecomposition,
  SingularValueDecomposition,
} from "ml-matrix";

/** A row-major matrix; elements are float64 whatever they were made from. */
export interface Dense {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

/** @throws {RangeError} where the elements do not fill the shape. */
export function dense(rows: number, columns: number, values: ArrayLike<number>): Dense {
  if (values.length !== rows * columns) {
    throw new RangeError(
      `Cannot make a matrix [${rows}, ${columns}]: ${values.length} elements are given`,
    );
  }
  return { rows, columns, data: Float64Array.from(values) };
}

/** aᵀ. */
export function transpose({ rows, columns, data }: Dense): Dense {
  const out = new Float64Array(data.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) out[j * rows + i] = data[i * columns + j];
  }
  return { rows: columns, columns: rows, data: out };
}

/** a·b, [m, k] × [k, n]. */
export function multiply(a: Dense, b: Dense): Dense {
  if (a.columns !== b.rows) {
    throw new RangeError(
      `Cannot multiply [${a.rows}, ${a.columns}] by [${b.rows}, ${b.columns}]`,
    );
  }
  const out = zeros(a.rows, b.columns);
  for (let i = 0; i < a.rows; i++) {
    const row = out.data.subarray(i * b.columns, (i + 1) * b.columns);
    addRows(row, a.data, { first: i * a.columns, stride: 1 }, b);
  }
  return out;
}

/** Adds aᵀ·b to a sum, in place: [k, m]ᵀ × [k, n] to [m, n]. */
export function addTransposed(sum: Dense, a: Dense, b: Dense): void {
  if (a.rows !== b.rows || sum.rows !== a.columns || sum.columns !== b.columns) {
    throw new RangeError(
      `Cannot add [${a.rows}, ${a.columns}]ᵀ × [${b.rows}, ${b.columns}] ` +
        `to [${sum.rows}, ${sum.columns}]`,
    );
  }
  for (let i = 0; i < sum.rows; i++) {
    const row = sum.data.subarray(i * sum.columns, (i + 1) * sum.columns);
    addRows(row, a.data, { first: i, stride: a.columns }, b);
  }
}

/**
 * Adds b's rows to one, each by its weight: four at a time, since a loop of single ones is bound by
 * its loads and stores.
 */
function addRows(
  row: Float64Array,
  weights: Float64Array,
  { first, stride }: { readonly first: number; readonly stride: number },
  { rows, data }: Dense,
): void {
  const n = row.length;
  let k = 0;
  for (; k + 3 < rows; k += 4) {
    const at = first + k * stride;
    const [w, x, y, z] = [
      weights[at],
      weights[at + stride],
      weights[at + 2 * stride],
      weights[at + 3 * stride],
    ];
    const from = k * n;
    for (let j = 0; j < n; j++) {
      const b = from + j;
      row[j] += w * data[b] + x * data[b + n] + y * data[b + 2 * n] + z * data[b + 3 * n];
    }
  }
  for (; k < rows; k++) {
    const weight = weights[first + k * stride];
    for (let j = 0; j < n; j++) row[j] += weight * data[k * n + j];
  }
}

/** a·aᵀ. */
export function gramOf(a: Dense): Dense {
  const sum = zeros(a.rows, a.rows);
  addGram(sum, a, "rows");
  return sum;
}

export function zeros(rows: number, columns: number): Dense {
  return { rows, columns, data: new Float64Array(rows * columns) };
}

/** a scaled by a number. */
export function scaled(a: Dense, factor: number): Dense {
  return { ...a, data: a.data.map((value) => value * factor) };
}

/** The first `columns` columns. */
export function firstColumns(a: Dense, columns: number): Dense {
  const data = new Float64Array(a.rows * columns);
  for (let i = 0; i < a.rows; i++) {
    data.set(a.data.subarray(i * a.columns, i * a.columns + columns), i * columns);
  }
  return { rows: a.rows, columns, data };
}

/** The trace of a·b: the energy ‖x·y‖² where a = xᵀx and b = y·yᵀ. */
export function traceOfProduct(a: Dense, b: Dense): number {
  const other = transpose(b).data;
  return a.data.reduce((sum, value, i) => sum + value * other[i], 0);
}

/** a⁺ of a matrix of full column rank or not: (aᵀa)⁺aᵀ, [columns, rows]. */
export function pseudoInverseOf(a: Dense): Dense {
  const at = transpose(a);
  return multiply(fromMatrix(pseudoInverse(toMatrix(multiply(at, a)))), at);
}

/** Orthonormal columns with the span of a's, [rows, columns]. */
export function orthonormal(a: Dense): Dense {
  return fromMatrix(new QrDecomposition(toMatrix(a)).orthogonalMatrix);
}

/** The min(rows, columns) singular values, largest first. */
export function singularValues(a: Dense): number[] {
  const solved = new SingularValueDecomposition(toMatrix(a), {
    computeLeftSingularVectors: false,
    computeRightSingularVectors: false,
    autoTranspose: true,
  });
  return solved.diagonal;
}

export interface Leading {
  /** [n, count], orthonormal columns by falling eigenvalue; each column's largest element is positive. */
  readonly vectors: Dense;
  /** Sum of the leading eigenvalues over the sum of all. */
  readonly share: number;
}

/** The leading eigenvectors of a symmetric matrix with no negative eigenvalue. */
export function leadingEigenvectors(symmetric: Dense, count: number): Leading {
  const n = symmetric.rows;
  const solved = new EigenvalueDecomposition(toMatrix(symmetric), { assumeSymmetric: true });
  const values = solved.realEigenvalues;
  const order = [...values.keys()].sort((i, j) => values[j] - values[i]);
  const data = new Float64Array(n * count);
  order.slice(0, count).forEach((from, to) => {
    const column = solved.eigenvectorMatrix.getColumn(from);
    const largest = column.reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a, 0);
    column.forEach((value, row) => data[row * count + to] = largest < 0 ? -value : value);
  });
  const kept = order.slice(0, count).reduce((sum, i) => sum + values[i], 0);
  const total = values.reduce((sum, value) => sum + value, 0);
  return { vectors: { rows: n, columns: count, data }, share: total > 0 ? kept / total : 0 };
}

/**
 * Adds w·wᵀ ("rows") or wᵀ·w ("columns") to a symmetric sum, in place.
 * @param w [rows, columns], row major
 */
export function addGram(sum: Dense, w: Dense, over: "rows" | "columns"): void {
  const { rows: n, columns: depth, data } = over === "rows" ? w : transpose(w);
  const padded = new Float64Array((n + n % 2) * depth);
  padded.set(data);
  for (let i = 0; i < n; i += 2) {
    for (let j = 0; j <= i; j += 2) addTile(sum, padded, depth, i, j);
  }
}

/** Two rows by two columns of products at once: a loop of single ones is bound by its loads. */
function addTile(sum: Dense, rows: Float64Array, depth: number, i: number, j: number): void {
  const [a, b, c, d] = [i * depth, (i + 1) * depth, j * depth, (j + 1) * depth];
  let [ac, ad, bc, bd] = [0, 0, 0, 0];
  for (let k = 0; k < depth; k++) {
    ac += rows[a + k] * rows[c + k];
    ad += rows[a + k] * rows[d + k];
    bc += rows[b + k] * rows[c + k];
    bd += rows[b + k] * rows[d + k];
  }
  addSymmetric(sum, i, j, ac);
  addSymmetric(sum, i + 1, j, bc);
  if (i === j) return addSymmetric(sum, i + 1, j + 1, bd);
  addSymmetric(sum, i, j + 1, ad);
  addSymmetric(sum, i + 1, j + 1, bd);
}

function addSymmetric({ data, columns: n }: Dense, i: number, j: number, value: number): void {
  if (i >= n || j >= n) return;
  data[i * n + j] += value;
  if (i !== j) data[j * n + i] += value;
}

function toMatrix({ rows, columns, data }: Dense): Matrix {
  return Matrix.from1DArray(rows, columns, data);
}

function fromMatrix(matrix: Matrix): Dense {
  return dense(matrix.rows, matrix.columns, matrix.to1DArray());
}
