/**
 * Whether a request may wait at all: the tenant's own limit, and room in the queue. A full queue is
 * shared like everything else: a request of a tenant that holds less of it displaces the newest one
 * of the tenant that holds most, which is refused as if it had come too late. It counts; it admits
 * nothing to a batch.
 */
import type { Account } from "./accounts.ts";
import type { Delivery } from "./delivery.ts";
import type { Lane } from "./lane.ts";
import type { Counters } from "./metrics.ts";
import { OverloadedError } from "./request.ts";
import type { Sequence } from "./sequence.ts";
import type { WaitingQueue } from "./waiting.ts";

export interface AdmissionOptions {
  /** Samples that may wait. */
  readonly maxQueue: number;
  readonly lanes: () => readonly Lane[];
  readonly queue: WaitingQueue;
  readonly delivery: Delivery;
  readonly counters: Counters;
}

export class AdmissionControl {
  readonly #options: AdmissionOptions;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /**
   * Makes room for so many samples that are to run in a lane.
   * @throws {OverloadedError} where the tenant's limit, or the queue, leaves none.
   */
  admit(account: Account, samples: number, lane: Lane): void {
    this.#checkTenant(account, samples, lane);
    const { maxQueue, delivery } = this.#options;
    for (let excess = this.#excess(samples); excess > 0; excess = this.#excess(samples)) {
      const victim = this.#displaced(account, samples);
      if (victim === undefined) {
        throw this.refuse("server", `The queue is full: ${this.#waiting()} of ${maxQueue} wait`);
      }
      const text = `The queue is full: ${maxQueue} wait, and other tenants have fewer there`;
      delivery.failed(victim, this.refuse("server", text));
    }
  }

  /** Counts a refusal and says when to come back. */
  refuse(scope: OverloadedError["scope"], message: string): OverloadedError {
    const { counters, delivery } = this.#options;
    counters.rejected++;
    const seconds = delivery.rate.secondsFor(this.#waiting(), performance.now());
    return new OverloadedError(message, seconds, scope);
  }

  #checkTenant(account: Account, samples: number, lane: Lane): void {
    const { queued, concurrency = Infinity } = account.standing;
    if (queued === undefined) return;
    const rows = this.#rowsOf(account);
    const waiting = account.live - rows;
    // what can run at once does not wait, though it has not left the queue yet
    const startable = Math.max(0, Math.min(concurrency - rows, lane.freeSlots));
    if (waiting + samples <= queued + startable) return;
    throw this.refuse(
      "tenant",
      `Too many requests of '${account.tenant}' wait: ${waiting} of at most ${queued}` +
        (concurrency === Infinity ? "" : `, while ${rows} of at most ${concurrency} run`),
    );
  }

  #rowsOf(account: Account): number {
    return this.#options.lanes().reduce(
      (sum, { rows }) => sum + rows.filter((row) => row.account === account).length,
      0,
    );
  }

  #waiting(): number {
    const { lanes, delivery } = this.#options;
    return delivery.size - lanes().reduce((sum, lane) => sum + lane.rows.length, 0);
  }

  #excess(samples: number): number {
    return this.#waiting() + samples - this.#options.maxQueue;
  }

  /** The newest request of the longest line that would still be no shorter than the newcomer's. */
  #displaced(account: Account, samples: number): Sequence | undefined {
    const { queue, delivery } = this.#options;
    const own = ((queue.lines.get(account)?.length ?? 0) + samples) / account.standing.weight;
    let longest: { readonly victim: Sequence; readonly left: number } | undefined;
    for (const [other, line] of queue.lines) {
      const victim = line.findLast((sequence) => !delivery.begun(sequence));
      if (other === account || victim === undefined) continue;
      const left = (line.length - victim.request.n) / other.standing.weight;
      if (left >= own && left > (longest?.left ?? -1)) longest = { victim, left };
    }
    return longest?.victim;
  }
}
