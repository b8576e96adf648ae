/**
 * A job's events as they happen, and its curve for the results file. It owns the order in which
 * events are written and that a step repeated after a restart is told once; it knows no trainer.
 */
import { newId } from "../../adapters/store/ids.ts";
import type { JobEvent, JobStore, StepMetrics } from "../../adapters/store/store.ts";

const ALL = { after: undefined, limit: Infinity, order: "asc" } as const;
const COLUMNS = [
  "step",
  "train_loss",
  "train_accuracy",
  "valid_loss",
  "valid_mean_token_accuracy",
] as const;

export class Journal {
  readonly #store: JobStore;
  readonly #jobId: string;
  /** Metrics by step, merged. */
  readonly #curve = new Map<number, StepMetrics>();
  #pending: JobEvent[] = [];
  #writing: Promise<void> | undefined;

  private constructor(store: JobStore, jobId: string) {
    this.#store = store;
    this.#jobId = jobId;
  }

  /** With what an earlier run of the job has told. */
  static async open(store: JobStore, jobId: string): Promise<Journal> {
    const journal = new Journal(store, jobId);
    const { items } = await store.events(jobId, ALL);
    for (const { data } of items) if (data !== null) journal.#merge(data);
    return journal;
  }

  message(message: string, level: JobEvent["level"] = "info"): void {
    this.#add({ level, message, type: "message", data: null });
  }

  /** Tells figures of a step (`data.step`), unless all of them were told before. */
  metrics(message: string, data: StepMetrics): void {
    if (this.#merge(data)) this.#add({ level: "info", message, type: "metrics", data });
  }

  /** The latest figures of a step. */
  at(step: number): StepMetrics {
    return this.#curve.get(step) ?? {};
  }

  /** Resolves when all events so far are durable. @throws what writing them threw */
  async flush(): Promise<void> {
    while (this.#writing !== undefined || this.#pending.length > 0) {
      this.#writing ??= this.#write();
      await this.#writing;
    }
  }

  /** The curve as OpenAI's results file has it, a row for each training step that was told. */
  csv(): string {
    const steps = [...this.#curve.values()].filter(({ step = 0 }) => step > 0);
    const rows = steps.sort((a, b) => (a["step"] ?? 0) - (b["step"] ?? 0));
    const cell = (row: StepMetrics, column: string) =>
      row[column === "train_accuracy" ? "train_mean_token_accuracy" : column] ?? "";
    const lines = rows.map((row) => COLUMNS.map((column) => cell(row, column)).join(","));
    return [COLUMNS.join(","), ...lines].join("\n") + "\n";
  }

  #add(event: Omit<JobEvent, "id" | "createdAt">): void {
    this.#pending.push({ id: newId("ftevent"), createdAt: Date.now(), ...event });
    if (this.#writing !== undefined) return;
    this.#writing = this.#write();
    this.#writing.catch(() => {}); // `flush` meets the same failure
  }

  async #write(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        const events = [...this.#pending];
        await this.#store.addEvents(this.#jobId, events);
        this.#pending = this.#pending.slice(events.length);
      }
    } finally {
      this.#writing = undefined;
    }
  }

  /** Whether there was anything new. */
  #merge(data: StepMetrics): boolean {
    const step = data["step"] ?? 0;
    const known = this.#curve.get(step) ?? {};
    const isNew = Object.keys(data).some((key) => !(key in known));
    if (isNew) this.#curve.set(step, { ...known, ...data });
    return isNew;
  }
}
