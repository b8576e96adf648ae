/**
 * What jobs have made, served by name: published models and checkpoints. It owns the way from a
 * result to a name that requests may use, and back after a restart; it trains nothing.
 */
import type { Core } from "../../adapters/core.ts";
import type { FactorSet } from "../../adapters/factors.ts";
import { readCore, readFactors, writeCore, writeFactors } from "../../adapters/format.ts";
import { formatAdapterName } from "../../adapters/name.ts";
import type { AdapterEntry as Registered, AdapterRegistry } from "../../adapters/registry.ts";
import type { AdapterEntry } from "../context.ts";
import type { Log } from "../log.ts";
import { newId } from "../store/ids.ts";
import type {
  CheckpointRecord,
  JobRecord,
  JobStore,
  ModelStore,
  PublishedModel,
  StepMetrics,
} from "../store/store.ts";
import { adapterNameOf, checkpointName, tunedModelName } from "./names.ts";

export interface TunedModelsOptions {
  readonly models: ModelStore;
  readonly jobs: JobStore;
  readonly registry: AdapterRegistry;
  /** Makes a factor set servable, in registry and engine. */
  readonly addFactors: (factors: FactorSet) => Promise<void>;
  readonly log: Log;
}

/** What a job says of itself once its core is published. */
export type Outcome = Pick<PublishedModel, "trainedTokens" | "resultFiles">;

/** What training has made. */
interface MadeCore {
  readonly core: Core;
  readonly factors: FactorSet;
}

interface Named {
  readonly model: PublishedModel;
  readonly adapter: Registered;
}

export class TunedModels {
  readonly #options: TunedModelsOptions;
  /** By `ft:` name, oldest first. */
  readonly #published = new Map<string, Named>();
  readonly #checkpoints = new Map<string, AdapterEntry>();
  /** Factor sets that are being loaded, by digest. */
  readonly #loading = new Map<string, Promise<void>>();
  /** Publishing goes one after the other, so that versions are counted right. */
  #publishing: Promise<unknown> = Promise.resolve();

  constructor(options: TunedModelsOptions) {
    this.#options = options;
  }

  /** The published model or checkpoint of an `ft:` name, while its adapter is loaded. */
  find(name: string): AdapterEntry | undefined {
    const published = this.#published.get(name);
    return published === undefined ? this.#checkpoints.get(name) : this.#entryOf(published);
  }

  /** Published models, oldest first. */
  list(): readonly AdapterEntry[] {
    return [...this.#published.values()].flatMap((named) => this.#entryOf(named) ?? []);
  }

  /** Writes a core and its factor set down, then serves it; returns its `ft:` name. */
  publish(job: JobRecord, made: MadeCore, outcome: Outcome): Promise<string> {
    const published = this.#publishing.then(() => this.#publish(job, made, outcome));
    this.#publishing = published.catch(() => {});
    return published;
  }

  async #publish(
    job: JobRecord,
    { core, factors }: MadeCore,
    outcome: Outcome,
  ): Promise<string> {
    const { models, registry } = this.#options;
    await this.keepFactors(factors);
    const id = tunedModelName(job);
    const name = adapterNameOf(job);
    const latest = registry.resolve(`${job.tenant}/${name}`)?.version ?? 0;
    const model: PublishedModel = {
      id,
      jobId: job.id,
      tenant: job.tenant,
      name,
      version: latest + 1,
      createdAt: Date.now(),
      base: core.base,
      core: core.digest,
      factors: factors.digest,
      ...outcome,
    };
    await models.publish(model, writeCore(core));
    this.#serve(model, core);
    return id;
  }

  /**
   * Writes a checkpoint's core down and serves it under its own name, where its factor set is loaded
   * or given.
   */
  async addCheckpoint(
    job: JobRecord,
    { core, factors }: { readonly core: Core; readonly factors?: FactorSet },
    step: number,
    metrics: StepMetrics,
  ): Promise<CheckpointRecord> {
    const { jobs } = this.#options;
    if (factors !== undefined) await this.keepFactors(factors);
    const checkpoint: CheckpointRecord = {
      id: newId("ftckpt"),
      jobId: job.id,
      createdAt: Date.now(),
      step,
      metrics,
      core: core.digest,
      factors: core.factors,
    };
    await jobs.addCheckpoint(checkpoint, writeCore(core));
    this.#serveCheckpoint(job, checkpoint);
    await this.#forgetDropped(job);
    return checkpoint;
  }

  /** Keeps a factor set, and makes it servable. */
  async keepFactors(factors: FactorSet): Promise<void> {
    const { models } = this.#options;
    await models.addFactors(factors.digest, writeFactors(factors));
    await this.#load(factors);
  }

  /**
   * A factor set that is loaded, or was kept; it is loaded then.
   * @throws {RangeError} for an unknown digest; {TypeError} where it is of another base
   */
  async factorsOf(digest: string): Promise<FactorSet> {
    const { models, registry } = this.#options;
    const file = this.#isLoaded(digest) ? undefined : await models.factors(digest);
    if (file !== undefined) await this.#load(readFactors(file));
    return registry.factorsOf(digest);
  }

  /** Once, however many jobs ask for it at the same time. */
  async #load(factors: FactorSet): Promise<void> {
    const { digest } = factors;
    const loading = this.#loading.get(digest);
    if (loading !== undefined) return await loading;
    if (this.#isLoaded(digest)) return;
    const loaded = this.#options.addFactors(factors);
    this.#loading.set(digest, loaded);
    try {
      await loaded;
    } finally {
      this.#loading.delete(digest);
    }
  }

  /** Forgets a published model. Whether there was one. */
  async remove(id: string): Promise<boolean> {
    const named = this.#published.get(id);
    if (!await this.#options.models.remove(id)) return false;
    this.#published.delete(id);
    const { registry } = this.#options;
    const others = [...this.#published.values()];
    if (named && !others.some(({ adapter }) => adapter.ref.name === named.adapter.ref.name)) {
      registry.remove(named.adapter.ref.name);
    }
    return true;
  }

  /** Serves again what earlier processes have published; what cannot be is named in the log. */
  async restore(): Promise<void> {
    const { models, jobs, registry, log } = this.#options;
    for (const model of await models.all()) {
      await this.#attempt(model.id, async () => {
        const { base } = registry.stack;
        if (model.base !== base) throw new TypeError(`its base is ${model.base}, not ${base}`);
        await this.factorsOf(model.factors);
        this.#serve(model, readCore(await models.core(model)));
      });
    }
    for (const job of await jobs.all()) {
      for (const checkpoint of (await jobs.checkpoints(job.id)).toReversed()) {
        this.#serveCheckpoint(job, checkpoint);
      }
    }
    if (this.#published.size > 0) log.info(`tuned models ${this.#published.size}`);
  }

  async #attempt(id: string, step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.log.warning(`not served: ${id}: ${reason}`);
    }
  }

  #isLoaded(digest: string): boolean {
    return this.#options.registry.factorSets().some((set) => set.digest === digest);
  }

  #serve(model: PublishedModel, core: Core): void {
    const { models, registry, log } = this.#options;
    const source = {
      core,
      source: model.id,
      reload: async () => readCore(await models.core(model)),
    };
    const path = `${model.tenant}/${model.name}`;
    let adapter: Registered;
    try {
      adapter = registry.add(formatAdapterName(model.tenant, model.name, model.version), source);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      adapter = registry.add(path, source);
      log.warning(`${model.id} is ${adapter.ref.name}: version ${model.version} is taken`);
    }
    this.#published.set(model.id, { model, adapter });
  }

  /** A checkpoint whose factor set is not loaded is listed by its job but has no name here. */
  #serveCheckpoint(job: JobRecord, checkpoint: CheckpointRecord): void {
    const { jobs, registry } = this.#options;
    const { core: digest, factors, step } = checkpoint;
    if (!this.#isLoaded(factors)) return;
    registry.hold({ digest, factors }, async () => readCore(await jobs.checkpointCore(checkpoint)));
    const name = checkpointName(job, step);
    this.#checkpoints.set(name, {
      ref: { name, digest, factors },
      name,
      tenant: job.tenant,
      root: job.id,
      created: Math.floor(checkpoint.createdAt / 1000),
    });
  }

  /** The store keeps a bounded number of a job's checkpoints. */
  async #forgetDropped(job: JobRecord): Promise<void> {
    const kept = await this.#options.jobs.checkpoints(job.id);
    const names = new Set(kept.map(({ step }) => checkpointName(job, step)));
    for (const [name, { root, ref }] of this.#checkpoints) {
      if (root !== job.id || names.has(name)) continue;
      this.#checkpoints.delete(name);
      if (!kept.some(({ core }) => core === ref.digest)) this.#options.registry.unhold(ref.digest);
    }
  }

  #entryOf({ model, adapter }: Named): AdapterEntry | undefined {
    const loaded = this.#options.registry.resolve(adapter.ref.name);
    if (loaded?.ref.digest !== model.core) return undefined;
    return {
      ref: { ...adapter.ref, name: model.id },
      name: model.id,
      tenant: model.tenant,
      root: adapter.ref.name,
      created: Math.floor(model.createdAt / 1000),
    };
  }
}
