/**
 * Values of the benches' flags, read as what they should be. It owns the words of what cannot be;
 * which flags there are, each bench says.
 */

/** @throws {TypeError} for what is no whole number of at least `least` */
export function whole(name: string, text: string | number, least = 1): number {
  const value = Number(text);
  if (text !== "" && Number.isSafeInteger(value) && value >= least) return value;
  throw new TypeError(
    `Cannot bench: --${name} is ${text}, must be a whole number of at least ${least}`,
  );
}

/** @throws {TypeError} for what is no finite number above 0 */
export function positive(name: string, text: string | number): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new TypeError(`Cannot bench: --${name} is ${text}, must be a number above 0`);
}

/** @throws {TypeError} for what is none of `known` */
export function oneOf<T extends string>(name: string, value: string, known: readonly T[]): T {
  const found = known.find((one) => one === value);
  if (found !== undefined) return found;
  throw new TypeError(`Cannot bench: ${name} is ${value}, must be one of ${known.join(", ")}`);
}
