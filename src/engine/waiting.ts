/**
 * The order in which sequences wait: priority first, inside one priority tenants take turns, inside
 * one tenant first come first served. It knows neither memory nor slots.
 *
 * Turns are start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) with one unit a sequence: a
 * tenant's next sequence is stamped one after its last, or after the present time if it was idle. A
 * tenant that floods the queue delays itself; with one tenant the order is plain arrival.
 */
import type { Sequence } from "./sequence.ts";

/** Where a sequence stands; fixed on arrival, so a preempted one comes back to the front. */
export interface Place {
  readonly priority: number;
  readonly stamp: number;
  readonly arrival: number;
}

/** Negative where `a` runs sooner than `b`. */
export function comparePlaces(a: Place, b: Place): number {
  return a.priority - b.priority || a.stamp - b.stamp || a.arrival - b.arrival;
}

/** Stamps arrivals. */
export class TurnKeeper {
  readonly #last = new Map<string, number>();
  #now = 0;
  #arrivals = 0;

  /** The place of a tenant's next sequence. */
  place(tenant: string, priority: number): Place {
    const stamp = Math.max(this.#now, this.#last.get(tenant) ?? 0) + 1;
    this.#last.set(tenant, stamp);
    return { priority, stamp, arrival: this.#arrivals++ };
  }

  /** Time moves on to what is served; tenants that lie behind it are forgotten. */
  served(place: Place): void {
    if (place.stamp <= this.#now) return;
    this.#now = place.stamp;
    for (const [tenant, stamp] of this.#last) {
      if (stamp < this.#now) this.#last.delete(tenant);
    }
  }
}

/** Waiting sequences in order. */
export class WaitingQueue {
  readonly #sequences: Sequence[] = [];

  get ordered(): readonly Sequence[] {
    return this.#sequences;
  }

  get size(): number {
    return this.#sequences.length;
  }

  add(sequence: Sequence): void {
    let low = 0;
    let high = this.#sequences.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#sequences[middle];
      if (other !== undefined && comparePlaces(other.place, sequence.place) < 0) low = middle + 1;
      else high = middle;
    }
    this.#sequences.splice(low, 0, sequence);
  }

  remove(sequence: Sequence): void {
    const at = this.#sequences.indexOf(sequence);
    if (at === -1) throw new Error(`internal: sequence ${sequence.label} does not wait`);
    this.#sequences.splice(at, 1);
  }
}
