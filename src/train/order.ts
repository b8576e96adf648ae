/**
 * The order in which an epoch visits its rows. It owns the shuffle alone: it knows neither rows nor
 * batches, and keeps no state, so that a resumed run finds its place from (seed, epoch) again.
 */
import { streamKey, uniformOf } from "../util/random.ts";

/**
 * A permutation of 0 … count - 1, the same on every machine: Fisher and Yates's shuffle.
 *
 * @param seed a whole number of at most 53 bits
 * @param epoch from 0; each has an order of its own
 * @throws {RangeError} where one of them is no such number
 */
export function epochOrder(seed: number, epoch: number, count: number): Uint32Array {
  checkWhole("seed", seed, Number.MIN_SAFE_INTEGER);
  checkWhole("epoch", epoch, 0);
  checkWhole("count", count, 0);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  // The high bits make another seed of it; they are 0 for all that fit into 32.
  const high = Math.floor(seed / 2 ** 32);
  const key = streamKey(high === 0 ? seed : streamKey(seed, high), epoch);
  for (let last = count - 1; last > 0; last--) {
    const drawn = Math.floor(uniformOf(key, last) * (last + 1));
    const kept = order[last] ?? 0;
    order[last] = order[drawn] ?? 0;
    order[drawn] = kept;
  }
  return order;
}

function checkWhole(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new RangeError(
    `Cannot order an epoch: ${name} is ${value}, it should be a whole number` +
      (least === 0 ? " of 0 or more" : ""),
  );
}
