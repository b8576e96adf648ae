/** Pearson's chi-square test. */

/** Chance of a statistic at least as large where the counts do come from `probabilities`. */
export function pValue(counts: ArrayLike<number>, probabilities: ArrayLike<number>): number {
  let draws = 0;
  for (let i = 0; i < counts.length; i++) draws += counts[i];
  let statistic = 0;
  for (let i = 0; i < counts.length; i++) {
    const expected = draws * probabilities[i];
    statistic += (counts[i] - expected) ** 2 / expected;
  }
  return chiSquareTail(statistic, counts.length - 1);
}

/** P(X ≥ x) of the chi-square distribution: the regularised upper gamma function Q(k/2, x/2). */
export function chiSquareTail(x: number, degrees: number): number {
  const [a, z] = [degrees / 2, x / 2];
  if (z === 0) return 1;
  return z < a + 1 ? 1 - lowerSeries(a, z) : upperFraction(a, z);
}

/** P(a, z) by its series (DLMF 8.11.4). */
function lowerSeries(a: number, z: number): number {
  let term = 1 / a;
  let sum = term;
  for (let n = 1; term > sum * 1e-16; n++) {
    term *= z / (a + n);
    sum += term;
  }
  return sum * Math.exp(a * Math.log(z) - z - logGamma(a));
}

/** Q(a, z) by its continued fraction (DLMF 8.9.2), evaluated by Lentz's method. */
function upperFraction(a: number, z: number): number {
  const tiny = 1e-300;
  let b = z + 1 - a;
  let c = 1 / tiny;
  let d = 1 / b;
  let product = d;
  let change = 0;
  for (let n = 1; Math.abs(change - 1) > 1e-15; n++) {
    const numerator = -n * (n - a);
    b += 2;
    d = 1 / (numerator * d + b || tiny);
    c = b + numerator / c || tiny;
    change = c * d;
    product *= change;
  }
  return product * Math.exp(a * Math.log(z) - z - logGamma(a));
}

/** Stirling's series (DLMF 5.11.1), after moving the argument up to where it holds. */
function logGamma(x: number): number {
  let [shift, y] = [0, x];
  for (; y < 12; y++) shift -= Math.log(y);
  const series = 1 / (12 * y) - 1 / (360 * y ** 3) + 1 / (1260 * y ** 5) - 1 / (1680 * y ** 7);
  return shift + (y - 0.5) * Math.log(y) - y + Math.log(2 * Math.PI) / 2 + series;
}
