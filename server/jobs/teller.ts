/**
 * A running job's progress for people: events, log lines and an estimate of the end. It owns their
 * words; nothing is decided by what is told here.
 */
import type { TrainProgress } from "../../adapters/training/training.ts";
import type { Log } from "../telemetry/log.ts";
import type { JobRecord, TenantData } from "../../adapters/store/store.ts";
import type { Dataset } from "./dataset.ts";
import type { Journal } from "./journal.ts";

/** Where a running job is, for those who ask meanwhile. */
export interface LiveProgress {
  /** Unix milliseconds at which it should end; undefined before the second step. */
  estimatedFinish: number | undefined;
  /** The step that this run has begun from; undefined before it has. */
  from: number | undefined;
  /** Whether a step after it is kept. */
  advanced: boolean;
}

export interface RunningJob {
  readonly job: JobRecord;
  /** Its tenant's part of the store. */
  readonly data: TenantData;
  readonly dataset: Dataset;
  readonly journal: Journal;
  readonly signal: AbortSignal;
  readonly live: LiveProgress;
  /** @throws {Interrupt} where another process has the job now */
  readonly checkHeld: () => Promise<void>;
}

/** What a teller tells to, beside the job's journal. */
export interface TellerPorts {
  readonly log: Log;
  /** Hears of tokens trained on, as they are, and for whom. */
  readonly onTokens: (tokens: number, tenant: string) => void;
}

type Progress<T extends TrainProgress["type"]> = Extract<TrainProgress, { readonly type: T }>;

/** Turns what the trainer reports into events, log lines and an estimate of the end. */
export class Teller {
  readonly #running: RunningJob;
  readonly #ports: TellerPorts;
  #steps = 0;
  #tokens = 0;
  #pace: { readonly step: number; readonly time: number } | undefined;

  constructor(running: RunningJob, ports: TellerPorts) {
    this.#running = running;
    this.#ports = ports;
  }

  tell(progress: TrainProgress): void {
    const { journal, job } = this.#running;
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
    const { job, data, journal, dataset, live } = this.#running;
    const { log } = this.#ports;
    live.from = done;
    this.#steps = steps;
    this.#tokens = tokens;
    // a failure to write it is met again when the job's end is written
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
    const { journal, dataset } = this.#running;
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
    this.#running.journal.metrics(`Step ${step}/${steps}: training loss=${loss.toFixed(2)}`, {
      step,
      total_steps: steps,
      train_loss: loss,
      train_mean_token_accuracy: accuracy,
    });
    const { tenant } = this.#running.job;
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
    this.#running.live.estimatedFinish = now + perStep * (this.#steps - step);
  }

  #evaluation({ step, evaluation: { loss, accuracy } }: Progress<"evaluation">): void {
    const { job, journal, dataset } = this.#running;
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
