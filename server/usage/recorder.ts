/**
 * Writes usage records to the store. Records that come during a write go together in the next one,
 * so a busy server writes a few times a second and nobody waits longer than two writes.
 *
 * The guarantee: when `record` resolves with "durable", the record is in the store and survives
 * the death of the process. The last event of an answer waits for that, so every request whose end
 * a client has seen is counted, once (records have ids). Where the store takes longer than 2
 * seconds, the answer goes out ("pending"); the record is tried again until the store takes it or
 * the process dies, and the log says so. A request that the death of the process cut off is not
 * counted.
 */
import type { UsageRecord, UsageStore } from "../../adapters/store/store.ts";
import { fulfilledWithin } from "../../src/util/time.ts";
import type { Log } from "../telemetry/log.ts";

/** Records of one write. */
const BATCH = 500;
/** Records that may wait for a store that does not answer. */
const MOST_PENDING = 100_000;
/** How long an answer waits for its record. */
const PATIENCE_MILLISECONDS = 2000;
const FIRST_RETRY_MILLISECONDS = 100;
const LAST_RETRY_MILLISECONDS = 5000;

export interface UsageRecorderOptions {
  readonly store: Pick<UsageStore, "add">;
  readonly log: Pick<Log, "warning" | "info">;
  /** Milliseconds that `record` waits at most. Default 2000. */
  readonly patience?: number;
}

interface Pending {
  readonly record: UsageRecord;
  readonly written: () => void;
}

export class UsageRecorder implements AsyncDisposable {
  readonly #options: UsageRecorderOptions;
  readonly #pending: Pending[] = [];
  #writing: Promise<void> | undefined;
  #failures = 0;
  #closing = false;
  #wake = () => {};

  constructor(options: UsageRecorderOptions) {
    this.#options = options;
  }

  /** Whether so many records wait that no new request should be taken. */
  get full(): boolean {
    return this.#pending.length >= MOST_PENDING;
  }

  /** Records that are not durable yet. */
  get pending(): number {
    return this.#pending.length;
  }

  /** Resolves when the record is durable, or when that takes too long. */
  async record(record: UsageRecord): Promise<"durable" | "pending"> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#pending.push({ record, written: resolve });
    this.#writing ??= this.#write();
    const { patience = PATIENCE_MILLISECONDS } = this.#options;
    return await fulfilledWithin(patience, promise) ? "durable" : "pending";
  }

  /**
   * Tries once more to write what is left. What the store does not take then is lost, and logged.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    this.#wake();
    await this.#writing;
    if (this.#pending.length === 0) return;
    this.#options.log.warning("usage records lost: the store did not take them", {
      records: this.#pending.length,
    });
  }

  async #write(): Promise<void> {
    while (this.#pending.length > 0) {
      if (await this.#writeBatch()) continue;
      if (this.#closing && !await this.#writeBatch()) break;
      await this.#pause();
    }
    this.#writing = undefined;
  }

  async #writeBatch(): Promise<boolean> {
    const batch = this.#pending.slice(0, BATCH);
    try {
      await this.#options.store.add(batch.map(({ record }) => record));
    } catch (error) {
      this.#failed(error);
      return false;
    }
    this.#pending.splice(0, batch.length);
    for (const { written } of batch) written();
    if (this.#failures > 0) this.#options.log.info("usage records are written again");
    this.#failures = 0;
    return true;
  }

  #failed(error: unknown): void {
    this.#failures++;
    this.#options.log.warning("usage records cannot be written, trying again", {
      records: this.#pending.length,
      error: error instanceof Error ? error.message : String(error),
    });
  }

  #pause(): Promise<void> {
    const wait = FIRST_RETRY_MILLISECONDS * 2 ** Math.min(this.#failures, 10);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.min(LAST_RETRY_MILLISECONDS, wait));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#closing) this.#wake();
    });
  }
}
