/**
 * How a workload is written on a command line: `zipf:100:1.1`, `lognormal:64:0.8:512`. It owns the
 * spelling and its error texts; `workload.ts` owns what the words mean.
 */
import type { Lengths, Popularity } from "./workload.ts";

/**
 * `base`, `identical`, `distinct:N`, `uniform:N` or `zipf:N:S` (S defaults to 1).
 * @throws {TypeError} for any other text.
 */
export function parsePopularity(text: string): Popularity {
  const [type, first, second, ...rest] = text.split(":");
  const adapters = Number(first);
  const bare = first === undefined;
  if (rest.length === 0) {
    if ((type === "base" || type === "identical") && bare) return { type };
    if ((type === "distinct" || type === "uniform") && adapters >= 1 && second === undefined) {
      return { type, adapters };
    }
    const s = Number(second ?? 1);
    if (type === "zipf" && adapters >= 1 && s >= 0) return { type, adapters, s };
  }
  throw new TypeError(
    `Cannot read popularity "${text}": write base, identical, distinct:N, uniform:N or zipf:N:S`,
  );
}

/**
 * `64` (fixed), `uniform:MIN:MAX` or `lognormal:MEDIAN:SIGMA:MAX`.
 * @throws {TypeError} for any other text.
 */
export function parseLengths(text: string): Lengths {
  const [type, ...numbers] = text.split(":");
  const [a = NaN, b = NaN, c = NaN] = numbers.map(Number);
  const tokens = Number(type);
  if (numbers.length === 0 && tokens >= 1) return { type: "fixed", tokens };
  if (type === "uniform" && numbers.length === 2 && a >= 1 && b >= a) {
    return { type, min: a, max: b };
  }
  if (type === "lognormal" && numbers.length === 3 && a > 0 && b >= 0 && c >= 1) {
    return { type, median: a, sigma: b, max: c };
  }
  throw new TypeError(
    `Cannot read length "${text}": write N, uniform:MIN:MAX or lognormal:MEDIAN:SIGMA:MAX`,
  );
}
