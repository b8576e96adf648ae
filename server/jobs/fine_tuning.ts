/**
 * Fine-tuning as a server has it: store, runner and tuned models put together, taken up at the start
 * and put down at the end. It owns their order; each of them owns its own part.
 */
import type { FactorSet } from "../../adapters/factors.ts";
import type { AdapterRegistry } from "../../adapters/registry.ts";
import type { CoreTrainer } from "../../adapters/training.ts";
import type { Log } from "../log.ts";
import type { TrainingMetrics } from "../metrics.ts";
import type { FileStore, JobStore, Store } from "../store/store.ts";
import type { ExampleReader } from "./dataset.ts";
import { JobRunner } from "./runner.ts";
import { TunedModels } from "./tuned_models.ts";

/** What trains over a loaded base. */
export interface TrainingBackend {
  readonly trainer: CoreTrainer;
  readonly reader: ExampleReader;
  /** The set of jobs that name none; made when first asked for. */
  readonly defaultFactors: () => Promise<FactorSet>;
}

export interface FineTuningOptions {
  readonly store: Store;
  readonly registry: AdapterRegistry;
  /** Makes a factor set servable, in registry and engine. */
  readonly addFactors: (factors: FactorSet) => Promise<void>;
  /** Undefined = nothing is trained; what was, is served. */
  readonly backend: TrainingBackend | undefined;
  /** The base model's id. */
  readonly model: string;
  /** Jobs that train at once. */
  readonly maxJobs: number;
  /** Largest uploaded file in bytes. */
  readonly maxFileBytes: number;
  readonly log: Log;
  readonly metrics: TrainingMetrics;
}

/** One tenant's part. */
export interface TenantTuning {
  readonly files: FileStore;
  readonly jobs: JobStore;
}

export class FineTuning implements AsyncDisposable {
  readonly files: FileStore;
  readonly jobs: JobStore;
  readonly tuned: TunedModels;
  /** Undefined where nothing can be trained. */
  readonly runner: JobRunner | undefined;
  readonly maxFileBytes: number;

  private constructor(options: FineTuningOptions) {
    const { store, backend, registry, addFactors, log } = options;
    this.files = store.files;
    this.jobs = store.jobs;
    this.maxFileBytes = options.maxFileBytes;
    this.tuned = new TunedModels({ ...store, registry, addFactors, log });
    this.runner = backend && new JobRunner({
      ...backend,
      store,
      tuned: this.tuned,
      model: options.model,
      maxJobs: options.maxJobs,
      log,
      onTokens: options.metrics.tokens,
    });
  }

  /** Serves again what was published, and takes up jobs that were under way. */
  static async start(options: FineTuningOptions): Promise<FineTuning> {
    const tuning = new FineTuning(options);
    await tuning.tuned.restore();
    options.metrics.attach(() => options.store.jobs.all());
    await tuning.runner?.start();
    return tuning;
  }

  /** What a tenant has; another's ids are unknown there. */
  forTenant(_tenant: string): TenantTuning {
    return { files: this.files, jobs: this.jobs };
  }

  /** Running jobs write down where they are, and stop. */
  async stop(): Promise<void> {
    await this.runner?.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
