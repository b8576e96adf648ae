/**
 * What a job tells people: its events as they happen, log lines, an estimate of the end, and its
 * curve for the results file. Nothing is decided by it. A step that is repeated after a restart is
 * told once.
 */
import { newId } from "../../src/util/ids.ts";
import type {
  JobEvent,
  JobRecord,
  JobStore,
  StepMetrics,
  TenantData,
} from "../../adapters/store/store.ts";
import type { TrainProgress } from "../../adapters/training/training.ts";
import type { Log } from "../telemetry/log.ts";
import type { Dataset } from "./dataset.ts";
import type { HeldJob } from "./held_job.ts";

/** Writes one message down. */
export function tell(
  jobs: JobStore,
  jobId: string,
  message: string,
  level: JobEvent["level"] = "info",
): Promise<void> {
  return jobs.addEvents(jobId, [newEvent({ level, message, type: "message", data: null })]);
}

function newEvent(event: Omit<JobEvent, "id" | "createdAt">): JobEvent {
  return { id: newId("ftevent"), createdAt: Date.now(), ...event };
}

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

  /** Reads the events of the job's earlier runs first. */
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
    this.#pending.push(newEvent(event));
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

/** A job that trains here. */
export interface TrainingRun {
  readonly job: JobRecord;
  readonly held: HeldJob;
  /** Its tenant's part of the store. */
  readonly data: TenantData;
  readonly dataset: Dataset;
  readonly journal: Journal;
}

/** Where progress goes besides the job's journal. */
export interface TellerPorts {
  readonly log: Log;
  /** Hears of tokens trained on, as they are, and for whom. */
  readonly onTokens: (tokens: number, tenant: string) => void;
}

type Progress<T extends TrainProgress["type"]> = Extract<TrainProgress, { readonly type: T }>;

/** Turns what the trainer reports into events, log lines and an estimate of the end. */
export class Teller {
  readonly #run: TrainingRun;
  readonly #ports: TellerPorts;
  #steps = 0;
  #tokens = 0;
  #pace: { readonly step: number; readonly time: number } | undefined;

  constructor(run: TrainingRun, ports: TellerPorts) {
    this.#run = run;
    this.#ports = ports;
  }

  tell(progress: TrainProgress): void {
    const { journal, job } = this.#run;
    switch (progress.type) {
      case "start":
        return this.#start(progress);
      case "step":
        return this.#step(progress);
      case "evaluation":
        return this.#evaluation(progress);
      case "rollback":
        this.#ports.log.warning(`${job.id} rolled back at step ${progress.step}`);
        return journal.message(`Step ${progress.step} rolled back: ${progress.reason}`, "warn");
      case "stopped":
        return journal.message(`Training stopped at step ${progress.step}: ${progress.reason}`);
    }
  }

  #start({ settled, steps, done, base, tokens, tokensPerEpoch }: Progress<"start">): void {
    const { job, data, journal, dataset, held } = this.#run;
    const { log } = this.#ports;
    held.from = done;
    this.#steps = steps;
    this.#tokens = tokens;
    // where this fails, writing the job's end fails too, and that is reported
    data.jobs.change(job.id, { settled }).catch(() => {});
    if (done === 0) {
      journal.message(
        `Training ${dataset.train.length} examples for ${settled.epochs} epochs in ${steps} steps ` +
          `of ${settled.batchSize}; the base's loss is ${base.loss.toFixed(3)}`,
      );
      this.#base(base, steps);
    }
    log.info(`${job.id} ${done === 0 ? "starts" : `goes on from step ${done}`}`, {
      examples: dataset.train.length,
      steps,
      tokens: tokensPerEpoch,
    });
  }

  /** The base's loss as figures: the curve's point before the first step. */
  #base({ loss, accuracy }: Progress<"start">["base"], steps: number): void {
    const { journal, dataset } = this.#run;
    const [of, kind] = dataset.valid.length > 0
      ? ["validation loss", "valid"]
      : ["loss on a sample of the training file", "sample"];
    journal.metrics(`Base: ${of}=${loss.toFixed(2)}`, {
      step: 0,
      total_steps: steps,
      [`${kind}_loss`]: loss,
      [`${kind}_mean_token_accuracy`]: accuracy,
    });
  }

  #step(progress: Progress<"step">): void {
    const { step, steps, loss, accuracy, tokens } = progress;
    this.#steps = steps;
    this.#run.journal.metrics(`Step ${step}/${steps}: training loss=${loss.toFixed(2)}`, {
      step,
      total_steps: steps,
      train_loss: loss,
      train_mean_token_accuracy: accuracy,
    });
    const { tenant } = this.#run.job;
    this.#ports.onTokens(Math.max(0, tokens - this.#tokens), tenant);
    this.#tokens = tokens;
    this.#estimate(step);
  }

  #estimate(step: number): void {
    const now = Date.now();
    this.#pace ??= { step, time: now };
    const done = step - this.#pace.step;
    if (done === 0) return;
    const perStep = (now - this.#pace.time) / done;
    this.#run.held.estimatedFinish = now + perStep * (this.#steps - step);
  }

  #evaluation({ step, evaluation: { loss, accuracy } }: Progress<"evaluation">): void {
    const { job, journal, dataset } = this.#run;
    const of = `Step ${step}/${this.#steps}`;
    if (dataset.valid.length > 0) {
      journal.metrics(`${of}: validation loss=${loss.toFixed(2)}`, {
        ...journal.at(step),
        step,
        total_steps: this.#steps,
        valid_loss: loss,
        valid_mean_token_accuracy: accuracy,
        full_valid_loss: loss,
        full_valid_mean_token_accuracy: accuracy,
      });
    } else {
      journal.metrics(`${of}: loss on a sample of the training file=${loss.toFixed(2)}`, {
        ...journal.at(step),
        step,
        total_steps: this.#steps,
        sample_loss: loss,
        sample_mean_token_accuracy: accuracy,
      });
    }
    this.#ports.log.info(`${job.id} step ${step}/${this.#steps}`, {
      loss: loss.toFixed(3),
      accuracy: accuracy.toFixed(3),
    });
  }
}
