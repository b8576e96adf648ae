/**
 * Whether a request may wait at all: the tenant's own limit, and room in the queue. A full queue is
 * shared like everything else: a request of a tenant that holds less of it displaces the newest one
 * of the tenant that holds most, which is refused as if it had come too late. Who gives way is chosen
 * first, and only where that lets the newcomer in does anybody.
 */
import type { Account } from "../accounts.ts";
import type { Delivery } from "./delivery.ts";
import type { Lane } from "../lane.ts";
import type { Counters } from "../metrics.ts";
import { OverloadedError } from "../../util/errors.ts";
import type { Sequence } from "../sequence.ts";
import type { WaitingQueue } from "../waiting.ts";

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
    const victims = this.#victims(account, samples);
    if (victims === undefined) {
      throw this.refuse("server", `The queue is full: ${this.#waiting()} of ${maxQueue} wait`);
    }
    const text = `The queue is full: ${maxQueue} wait, and other tenants have fewer there`;
    for (const { sequence } of victims) delivery.failed(sequence, this.refuse("server", text));
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

  /**
   * Whose requests give way to a newcomer, none of them for nothing; undefined where all that may
   * would not make room enough.
   */
  #victims(account: Account, samples: number): readonly Victim[] | undefined {
    const { queue, delivery, maxQueue } = this.#options;
    const missing = this.#waiting() + samples - maxQueue;
    if (missing <= 0) return [];
    const own = ((queue.lines.get(account)?.length ?? 0) + samples) / account.standing.weight;
    const lines = [...queue.lines].flatMap(([other, line]) =>
      other === account ? [] : new Line(other, line.filter((each) => !delivery.begun(each)), line)
    );
    const victims: Victim[] = [];
    let freed = 0;
    while (freed < missing) {
      const victim = longest(lines, own)?.takeNewest();
      if (victim === undefined) return undefined;
      victims.push(victim);
      freed += victim.samples;
    }
    return victims.filter(({ samples }) => {
      const spared = freed - samples >= missing;
      if (spared) freed -= samples;
      return !spared;
    });
  }
}

/** A request that may give way. */
interface Victim {
  /** One of its samples. */
  readonly sequence: Sequence;
  /** All of them: a request leaves whole. */
  readonly samples: number;
}

/** Another tenant's line, as it would be without those of its requests that are to give way. */
class Line {
  readonly #weight: number;
  /** Sequences of requests that have not begun, in order. */
  #movable: readonly Sequence[];
  #length: number;

  constructor(account: Account, movable: readonly Sequence[], line: readonly Sequence[]) {
    this.#weight = account.standing.weight;
    this.#movable = movable;
    this.#length = line.length;
  }

  /** What it holds by weight once its newest request has left; undefined where none can. */
  get left(): number | undefined {
    const newest = this.#movable.at(-1);
    return newest && (this.#length - newest.request.n) / this.#weight;
  }

  takeNewest(): Victim | undefined {
    const sequence = this.#movable.at(-1);
    if (sequence === undefined) return undefined;
    const kept = this.#movable.filter(({ request }) => request !== sequence.request);
    this.#length -= this.#movable.length - kept.length;
    this.#movable = kept;
    return { sequence, samples: sequence.request.n };
  }
}

/** The line that is left longest without its newest request, and no shorter than `own`. */
function longest(lines: readonly Line[], own: number): Line | undefined {
  let best: { readonly line: Line; readonly left: number } | undefined;
  for (const line of lines) {
    const { left = -1 } = line;
    if (left >= own && left > (best?.left ?? -1)) best = { line, left };
  }
  return best?.line;
}
