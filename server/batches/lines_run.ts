/**
 * Runs a batch's lines that have not run: as many at once as all batches together have slots, each
 * kept before its slot is free again, so that no more than these are lost when the process dies.
 */
import type { BatchRecord, BatchResult, TenantData } from "../../adapters/store/store.ts";
import { Interrupt } from "./held_batch.ts";
import { parseLine, readLines } from "./input.ts";
import { type Answerer, type LineSignals, runLine } from "./line_call.ts";

/** Room for lines, first come first served: batches that run at once take turns. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves when there is room. To be followed by one `release`. */
  async take(): Promise<void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

/** Writes lines together: those that come during a write go into the next one. */
class Journal {
  readonly #write: (results: readonly BatchResult[]) => Promise<void>;
  #pending: BatchResult[] = [];
  #writing: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(write: (results: readonly BatchResult[]) => Promise<void>) {
    this.#write = write;
  }

  /** Resolves when the line is on disk. @throws what writing throws */
  add(result: BatchResult): Promise<void> {
    this.#pending.push(result);
    this.#next ??= this.#after(this.#writing);
    return this.#next;
  }

  async #after(before: Promise<void>): Promise<void> {
    await before.catch(() => {}); // whoever added has met it
    const results = this.#pending;
    this.#pending = [];
    this.#next = undefined;
    this.#writing = this.#write(results);
    await this.#writing;
  }
}

export interface LinesRun extends LineSignals {
  readonly batch: BatchRecord;
  readonly data: Pick<TenantData, "batches" | "files">;
  readonly answer: Answerer;
  readonly slots: Slots;
  /** Hears of each line that was kept. */
  readonly onLine: (result: BatchResult) => void;
}

/**
 * Resolves when every line has run and is kept.
 * @throws {Interrupt} where some are left; what the store throws
 */
export async function runLines(run: LinesRun): Promise<void> {
  const { batch, data, answer, slots, stop } = run;
  const done = await data.batches.doneLines(batch.id);
  const journal = new Journal((results) => data.batches.addResults(batch.id, results));
  const fault = new AbortController();
  const signals = { stop, cut: AbortSignal.any([run.cut, fault.signal]) };
  let interrupt: Interrupt | undefined;
  const one = async (raw: Parameters<typeof parseLine>[0]) => {
    try {
      const line = parseLine(raw, batch.endpoint);
      const result = await runLine(line, batch, answer, signals);
      await journal.add(result);
      run.onLine(result);
    } catch (error) {
      // one that ends by itself leaves the others their end
      if (!(error instanceof Interrupt)) fault.abort(error);
      else interrupt ??= error;
    } finally {
      slots.release();
    }
  };
  const running = new Set<Promise<void>>();
  try {
    for await (const raw of readLines(await data.files.open(batch.inputFile))) {
      if (done.has(raw.line)) continue;
      await slots.take();
      if (stop.aborted || signals.cut.aborted || interrupt !== undefined) {
        slots.release();
        break;
      }
      const task: Promise<void> = one(raw).finally(() => running.delete(task));
      running.add(task);
    }
  } finally {
    await Promise.all(running);
  }
  signals.cut.throwIfAborted();
  if (interrupt !== undefined) throw interrupt;
  if (stop.aborted) throw new Interrupt("stop");
}
