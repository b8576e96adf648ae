/** A batch that this process has taken from the queue, and how its work is broken off. */
import type { Lease } from "../jobs/work_queue.ts";

/**
 * "cancel", "gone": the record says so already. "expire": its time is over. "stop": this process
 * ends. "lost": another process has it.
 */
export type InterruptKind = "cancel" | "gone" | "expire" | "stop" | "lost";

/** Why a batch's work was broken off. */
export class Interrupt extends Error {
  override readonly name = "AbortError";
  constructor(readonly kind: InterruptKind) {
    super(`the batch was interrupted: ${kind}`);
  }
}

export class HeldBatch {
  readonly lease: Lease;
  /** Resolves when this process has let go of it. */
  done: Promise<void> = Promise.resolve();
  readonly #cut = new AbortController();

  constructor(lease: Lease) {
    this.lease = lease;
    lease.lost.addEventListener("abort", () => this.cut("lost"));
  }

  get id(): string {
    return this.lease.item.job;
  }

  get tenant(): string {
    return this.lease.item.tenant;
  }

  /** Aborted by an `Interrupt`. */
  get signal(): AbortSignal {
    return this.#cut.signal;
  }

  /** Cuts off what runs of it. */
  cut(kind: InterruptKind): void {
    this.#cut.abort(new Interrupt(kind));
  }
}
