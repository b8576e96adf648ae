/**
 * Fine-tuning as a server has it: store, runner, served cores and tuned models put together, taken
 * up at the start and put down at the end.
 */
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import type { AdapterRegistry } from "../../adapters/catalog/registry.ts";
import { StoredCores } from "../../adapters/catalog/stored_cores.ts";
import { TunedModels } from "../../adapters/catalog/tuned_models.ts";
import type { Store, TenantData } from "../../adapters/store/store.ts";
import type { CoreTrainer } from "../../adapters/training/core_trainer.ts";
import { DEFAULT_TENANT, parseAdapterName, TUNED_PREFIX } from "../../adapters/catalog/name.ts";
import type { ServedCore } from "../../src/engine/request/request.ts";
import type { TeacherPorts } from "./distil_job.ts";
import type { Log } from "../telemetry/log.ts";
import type { TrainingMetrics } from "../telemetry/metrics.ts";
import type { ExampleReader } from "./dataset.ts";
import { JobRunner } from "./runner.ts";

/** What trains over a loaded base. */
export interface TrainingBackend {
  readonly trainer: Pick<CoreTrainer, "train">;
  readonly reader: ExampleReader;
  /** The set of jobs that name none; made when first asked for. */
  readonly defaultFactors: () => Promise<FactorSet>;
  /** Digest of the base, hex. */
  readonly base: () => Promise<string>;
  /** An adapter that is served as one that jobs follow. */
  readonly teacher: TeacherPorts["teacher"];
}

export interface FineTuningOptions {
  readonly store: Store;
  readonly registry: AdapterRegistry;
  /** Undefined = nothing can be trained; models that were trained before are served. */
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

/** One tenant's part of the store. */
export type TenantTuning = Pick<TenantData, "files" | "uploads" | "jobs" | "batches">;

export class FineTuning implements AsyncDisposable {
  /** The store's cores, served by name. */
  readonly cores: StoredCores;
  readonly tuned: TunedModels;
  /** Undefined where nothing can be trained. */
  readonly runner: JobRunner | undefined;
  readonly maxFileBytes: number;
  readonly #store: Store;

  private constructor(
    { store, maxFileBytes }: FineTuningOptions,
    parts: Pick<FineTuning, "cores" | "tuned" | "runner">,
  ) {
    this.#store = store;
    this.maxFileBytes = maxFileBytes;
    this.cores = parts.cores;
    this.tuned = parts.tuned;
    this.runner = parts.runner;
  }

  /** Serves what is in the store, and takes up jobs that nobody has. */
  static async start(options: FineTuningOptions): Promise<FineTuning> {
    const { store, backend, registry, metrics, ...rest } = options;
    await registry.factors.keepIn(store.factors);
    const cores = new StoredCores({ store, registry });
    const tuned = new TunedModels({ store, cores, registry });
    const served = (name: string) => find(name, { cores, tuned, registry });
    const runner = backend && await JobRunner.open({
      ...{ ...rest, ...backend, store, tuned, served },
      base: await backend.base(),
      onTokens: metrics.tokens,
    });
    metrics.attach(() => store.jobs.counts());
    await runner?.start();
    return new FineTuning(options, { cores, tuned, runner });
  }

  /** A tenant's files, jobs and batches; the ids of another tenant's are unknown there. */
  forTenant(tenant: string): TenantTuning {
    return this.#store.forTenant(tenant);
  }

  /** Stops running jobs after their progress is written. */
  async stop(): Promise<void> {
    await this.runner?.stop();
    this.cores[Symbol.dispose]();
    this.tuned[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** What a full name stands for: in the store, or in this process. */
async function find(
  name: string,
  { cores, tuned, registry }: Pick<FineTuning, "cores" | "tuned"> & {
    readonly registry: AdapterRegistry;
  },
): Promise<ServedCore | undefined> {
  if (name.startsWith(TUNED_PREFIX)) return await tuned.find(name);
  const { tenant = DEFAULT_TENANT, ...own } = parseAdapterName(name);
  return await cores.find(tenant, own) ?? registry.resolve(name);
}
