/** Round numbers along an axis. It knows no picture. */

/**
 * Multiples of 1, 2 or 5 times a power of ten, from at most `low` to at least `high`, of which about
 * `wanted` steps make the way.
 *
 * ```ts
 * import { ticksBetween } from "./ticks.ts";
 * import { assertEquals } from "@std/assert";
 * assertEquals(ticksBetween(0, 2.3, 5), [0, 0.5, 1, 1.5, 2, 2.5]);
 * ```
 *
 * @throws {RangeError} where `high` is not above `low`, or either is not finite.
 */
export function ticksBetween(low: number, high: number, wanted: number): readonly number[] {
  if (!(high > low) || !Number.isFinite(high - low)) {
    throw new RangeError(`Cannot place ticks from ${low} to ${high}: a finite rise is wanted`);
  }
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((one) => one * power >= rough) ?? 10);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from(
    { length: last - first + 1 },
    (_, i) => Number(((first + i) * step).toPrecision(12)),
  );
}
