/**
 * Usage records for a job's trained tokens, written when its checkpoints are. A record counts the
 * tokens since the last one, whichever process wrote that: steps that are repeated after a crash
 * are counted once, and a job's records add up to its `trained_tokens`. A job that fails or is
 * cancelled has paid up to its last checkpoint.
 */
import type { JobRecord, UsageRecord, UsageStore } from "../../adapters/store/store.ts";
import type { TrainProgress } from "../../adapters/training/training.ts";

type Job = Pick<JobRecord, "id" | "tenant" | "model" | "createdAt">;
type Records = Pick<UsageStore, "add" | "trained">;

export class TrainingUsage {
  readonly #store: Records;
  readonly #job: Job;
  /** Tokens trained on, from the job's beginning. */
  #trained = 0;
  #written: number;

  private constructor(store: Records, job: Job, written: number) {
    this.#store = store;
    this.#job = job;
    this.#written = written;
  }

  /** Goes on after what earlier runs of the job have written. */
  static async open(store: Records, job: Job): Promise<TrainingUsage> {
    return new TrainingUsage(store, job, await store.trained(job));
  }

  /** To be told of tokens as they are trained on. */
  hear(progress: TrainProgress): void {
    if (progress.type === "start" || progress.type === "step") this.#trained = progress.tokens;
  }

  /** To be awaited before the checkpoint is kept. */
  async checkpoint(step: number): Promise<void> {
    await this.#write(`step-${step}`, this.#trained);
  }

  /** To be awaited before the job has ended well. @param trained tokens of the whole job */
  async finish(trained: number): Promise<void> {
    await this.#write("end", trained);
  }

  async #write(name: string, trained: number): Promise<void> {
    const tokens = trained - this.#written;
    if (tokens <= 0) return;
    const { id, tenant, model } = this.#job;
    const record: UsageRecord = {
      id: `${id}/${name}`,
      at: Date.now(),
      tenant,
      keyId: null,
      model,
      kind: "training",
      promptTokens: 0,
      cachedTokens: 0,
      completionTokens: 0,
      trainedTokens: tokens,
      requestId: id,
    };
    await this.#store.add([record]);
    this.#written = trained;
  }
}
