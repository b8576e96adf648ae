/**
 * Work that waits for a process: who has which job, and who is next (within a tenant first come first
 * served, between tenants those who have least of it running). An item lies in the queue while there
 * is something to do, once for each job.
 */
import type { Lease, WorkItem } from "./lease.ts";

/** The queues of one process. */
export interface WorkQueues extends AsyncDisposable {
  /** The queue of a name, made where it is missing. */
  queue(name: string): Promise<WorkQueue>;
}

export interface WorkQueue {
  /** Adds items; one that is there already, waiting or taken, stays as it is. */
  add(items: readonly WorkItem[], delaySeconds?: number): Promise<void>;
  /**
   * Takes the next item: of the tenants that wait, of one with the fewest taken by all processes,
   * its earliest. Counts above `most` are the same. Undefined where nothing waits.
   */
  take(most: number): Promise<Lease | undefined>;
  /** Takes an item out, whoever has it: its lease is lost. */
  withdraw(job: string): Promise<void>;
}
