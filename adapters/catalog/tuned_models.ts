/**
 * What jobs have made, under `ft:` names: published models, whose cores `StoredCores` has, and
 * checkpoints. Every process on a store serves them.
 */
import type { ServedCore } from "../../src/engine/request/request.ts";
import { ScopedAnswers } from "../../src/util/memo.ts";
import { unixSeconds } from "../../src/util/time.ts";
import type { AdapterContent } from "../lora/adapter_file.ts";
import type { Core } from "../lotr/core.ts";
import type { FactorSet } from "../lotr/factors.ts";
import { readCore, writeCore } from "../lotr/format.ts";
import { newId } from "../../src/util/ids.ts";
import type {
  CheckpointRecord,
  JobRecord,
  PublishedModel,
  StepMetrics,
  Store,
} from "../store/store.ts";
import { UnservableError } from "./factor_sets.ts";
import {
  adapterNameOf,
  formatAdapterName,
  parseTunedName,
  tunedModelName,
  type TunedName,
} from "./name.ts";
import type { AdapterRegistry, CoreKeeper } from "./registry.ts";
import type { StoredCores } from "./stored_cores.ts";

export interface TunedModelsOptions {
  readonly store: Pick<Store, "kind" | "forTenant" | "models" | "changes">;
  /** Where the cores of published models lie. */
  readonly cores: StoredCores;
  readonly registry: AdapterRegistry;
}

/** What a job's record says when its core is published. */
export type Outcome = Pick<PublishedModel, "trainedTokens" | "resultFiles">;

/** What training has made. */
interface MadeCore {
  readonly core: Core;
  readonly factors: FactorSet;
}

interface FoundCheckpoint {
  readonly job: JobRecord;
  readonly checkpoint: CheckpointRecord;
}

/**
 * Tenants whose names are remembered, and for how many milliseconds where a message of the store
 * was lost.
 */
const MAX_TENANTS = 4096;
const FRESH_MS = 1000;

export class TunedModels implements CoreKeeper, Disposable {
  readonly #options: TunedModelsOptions;
  readonly #names: ScopedAnswers<ServedCore | undefined>;
  readonly #news: readonly Disposable[];

  constructor(options: TunedModelsOptions) {
    this.#options = options;
    const { kind, changes } = options.store;
    const freshMs = kind === "sqlite" ? Infinity : FRESH_MS;
    this.#names = new ScopedAnswers({ most: MAX_TENANTS, freshMs });
    const forget = ({ tenant }: { readonly tenant?: string }) =>
      tenant === undefined ? this.#names.clear() : this.#names.forget(tenant);
    // a factor set has no tenant: checkpoints that waited for it may be anybody's
    const kinds = ["model", "core", "job", "tenant", "factors", "resync"] as const;
    const { factors } = options.registry;
    this.#news = [
      ...kinds.map((kind) => changes.on(kind, forget)),
      changes.on("factors", ({ id }) => {
        if (id !== undefined) factors.recheck(id);
      }),
    ];
  }

  /**
   * The published model or checkpoint of an `ft:` name, its factor set loaded.
   * @throws {UnservableError} where its core is damaged, or its factor set is gone
   */
  async find(name: string): Promise<ServedCore | undefined> {
    const parsed = parseTunedName(name);
    if (parsed === undefined) return undefined;
    const find = () => parsed.step === undefined ? this.#model(parsed) : this.#checkpoint(parsed);
    const core = await this.#names.get(parsed.tenant, name, find);
    if (core !== undefined) await this.#options.registry.factors.ensureFor(core);
    return core;
  }

  /** Published models of this base, oldest first; a tenant's, or every one's with undefined. */
  async list(tenant: string | undefined): Promise<readonly ServedCore[]> {
    const { store, registry: { stack: { base } } } = this.#options;
    const { models } = tenant === undefined ? store : store.forTenant(tenant);
    return (await models.all()).filter((model) => model.base === base).map(served);
  }

  /** Stores a core and its factor set, which are served from then on; returns the `ft:` name. */
  async publish(job: JobRecord, { core, factors }: MadeCore, outcome: Outcome): Promise<string> {
    await this.#options.registry.factors.keep(factors);
    const id = tunedModelName(job);
    await this.#options.store.forTenant(job.tenant).models.publish({
      id,
      jobId: job.id,
      name: adapterNameOf(job),
      createdAt: Date.now(),
      base: core.base,
      core: core.digest,
      factors: factors.digest,
      ...outcome,
    }, writeCore(core));
    this.#names.forget(job.tenant);
    return id;
  }

  /** Stores a checkpoint's core, and its factor set where that is given. */
  async addCheckpoint(
    job: JobRecord,
    { core, factors }: { readonly core: Core; readonly factors?: FactorSet },
    step: number,
    metrics: StepMetrics,
  ): Promise<CheckpointRecord> {
    if (factors !== undefined) await this.#options.registry.factors.keep(factors);
    const checkpoint: CheckpointRecord = {
      id: newId("ftckpt"),
      jobId: job.id,
      createdAt: Date.now(),
      step,
      metrics,
      core: core.digest,
      factors: core.factors,
    };
    await this.#options.store.forTenant(job.tenant).jobs
      .addCheckpoint(checkpoint, writeCore(core));
    this.#names.forget(job.tenant);
    return checkpoint;
  }

  /** Stores a factor set. */
  keepFactors(factors: FactorSet): Promise<void> {
    return this.#options.registry.factors.keep(factors);
  }

  /**
   * A factor set, read from the store where it is not in memory.
   * @throws {FieldRangeError} for an unknown digest; {FieldError} where it is of another base
   */
  factorsOf(digest: string): Promise<FactorSet> {
    return this.#options.registry.factors.get(digest);
  }

  /** Removes a published model. Returns whether there was one. */
  async remove(id: string): Promise<boolean> {
    const parsed = parseTunedName(id);
    if (parsed === undefined) return false;
    const removed = await this.#options.store.forTenant(parsed.tenant).models.remove(id);
    this.#names.forget(parsed.tenant);
    return removed;
  }

  /** The content behind a name of the store's. */
  async load(served: ServedCore): Promise<AdapterContent> {
    const parsed = parseTunedName(served.name);
    if (parsed?.step === undefined) return await this.#options.cores.load(served);
    const found = await this.#findCheckpoint(parsed);
    if (found === undefined) {
      throw new RangeError(`Cannot load adapter '${served.name}': its checkpoint is gone`);
    }
    const { jobs } = this.#options.store.forTenant(parsed.tenant);
    return readCore(await jobs.checkpointCore(found.checkpoint));
  }

  [Symbol.dispose](): void {
    for (const one of this.#news) one[Symbol.dispose]();
  }

  async #model({ model: id, tenant }: TunedName): Promise<ServedCore | undefined> {
    const { store, cores, registry: { stack: { base } } } = this.#options;
    const model = await store.forTenant(tenant).models.find(id);
    if (model?.base !== base) return undefined;
    const { name, version: number } = model;
    // its version may have been removed under its own name
    const stored = await cores.find(tenant, { name, version: { type: "number", number } });
    return stored?.digest === model.core ? served(model) : undefined;
  }

  async #checkpoint(name: TunedName): Promise<ServedCore | undefined> {
    const found = await this.#findCheckpoint(name);
    if (found === undefined) return undefined;
    const { job, checkpoint } = found;
    const own = `${name.model}:ckpt-step-${checkpoint.step}`;
    const core: ServedCore = {
      name: own,
      digest: checkpoint.core,
      factors: checkpoint.factors,
      tenant: job.tenant,
      model: own,
      source: job.id,
      created: unixSeconds(checkpoint.createdAt),
    };
    return await this.#isServable(core) ? core : undefined;
  }

  async #findCheckpoint({ model, tenant, tail, step }: TunedName): Promise<
    FoundCheckpoint | undefined
  > {
    const { jobs } = this.#options.store.forTenant(tenant);
    const job = (await jobs.endingWith(tail)).find((one) => tunedModelName(one) === model);
    if (job === undefined) return undefined;
    const checkpoint = (await jobs.checkpoints(job.id)).find((one) => one.step === step);
    return checkpoint && { job, checkpoint };
  }

  /** A checkpoint whose factor set is of another base, or was not kept, has no name here. */
  async #isServable(core: ServedCore): Promise<boolean> {
    try {
      await this.#options.registry.factors.ensureFor(core);
      return true;
    } catch (error) {
      if (error instanceof UnservableError) return false;
      throw error;
    }
  }
}

function served(model: PublishedModel): ServedCore {
  const { id, tenant, name, version, core, factors, createdAt } = model;
  return {
    name: id,
    digest: core,
    factors,
    tenant,
    model: id,
    source: formatAdapterName(tenant, name, version),
    created: unixSeconds(createdAt),
  };
}
