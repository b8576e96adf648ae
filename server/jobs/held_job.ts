/**
 * A job that this process has taken from the queue: its lease, how to break its work off, and where
 * it is, for those who ask meanwhile.
 */
import { Interrupt, type InterruptKind } from "./job_status.ts";
import type { Lease, WorkItem } from "./work_queue.ts";

export const PHASES = ["validation", "training"] as const;
export type Phase = typeof PHASES[number];

export class HeldJob {
  readonly lease: Lease;
  readonly phase: Phase;
  /** Resolves when this process has let go of it. */
  done: Promise<void>;
  /** Unix milliseconds at which its training should end; undefined before the second step. */
  estimatedFinish: number | undefined;
  /** The step that training began from here; undefined before it has. */
  from: number | undefined;
  /** Whether a later step than `from` is in the store. */
  advanced = false;
  readonly #controller = new AbortController();

  /** @param before what this process does with the job until then */
  constructor(lease: Lease, phase: Phase, before: Promise<void>) {
    this.lease = lease;
    this.phase = phase;
    this.done = before;
    lease.lost.addEventListener("abort", () => this.interrupt("lost"));
  }

  get item(): WorkItem {
    return this.lease.item;
  }

  /** Its reason is an `Interrupt`. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  interrupt(kind: InterruptKind): void {
    this.#controller.abort(new Interrupt(kind));
  }

  /** @throws {Interrupt} where another process has the job now */
  async check(): Promise<void> {
    if (!await this.lease.isHeld()) throw new Interrupt("lost");
  }
}
