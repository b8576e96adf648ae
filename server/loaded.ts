/**
 * What a loaded model becomes in a server: the routes' context, and training over it. How it was
 * loaded, and from what, makes no difference here; tests load models without weights.
 */
import type { AdapterDirectory } from "../adapters/catalog/directory.ts";
import type { MeasuredQuality } from "../adapters/quality.ts";
import type { FactorSet } from "../adapters/lotr/factors.ts";
import type { AdapterRegistry } from "../adapters/catalog/registry.ts";
import type { Store } from "../adapters/store/store.ts";
import { Teacher } from "../adapters/training/distillation/teacher.ts";
import type { CoreTrainer } from "../adapters/training/core_trainer.ts";
import type { Checkpoint, DecoderConfig, SamplingDefaults } from "../src/checkpoint/checkpoint.ts";
import { hubName } from "../src/checkpoint/fetch/resolve.ts";
import type { Engine } from "../src/engine/engine.ts";
import type { EngineListener } from "../src/engine/metrics.ts";
import { reasoningFormatOf } from "../src/calls/reasoning.ts";
import { unixSeconds } from "../src/util/time.ts";
import { readDatasetInTurns } from "../src/train/data/dataset.ts";
import { readDatasetOnThread } from "../src/train/data/dataset_thread.ts";
import { Catalog } from "../adapters/catalog/catalog.ts";
import type { ServedEncoder, ServedModel, ServerContext } from "./context.ts";
import type { ServeFlags } from "./cli/serve_flags.ts";
import { BatchRunner } from "./batches/runner.ts";
import { FineTuning, type TrainingBackend } from "./jobs/fine_tuning.ts";
import { Lifecycle } from "./serve.ts";
import type { Log } from "./telemetry/log.ts";

/** Training over a loaded base. */
export interface LoadedTraining {
  readonly trainer: Pick<CoreTrainer, "train">;
  /** Most tokens of a training row. */
  readonly maxContext: number;
  /** The factor set of jobs that name none; made when first asked for. */
  defaultFactors(): Promise<FactorSet>;
}

/** What the server asks of an engine, be it of a decoder or of an encoder. */
export type ServedEngine = Pick<
  Engine,
  | "generate"
  | "generateAll"
  | "stats"
  | "maxContext"
  | "kvBlocks"
  | "fail"
  | "close"
  | "checkIntegrity"
>;

/** A model ready to serve, with its adapters; the server closes it. */
export interface Loaded {
  readonly checkpoint:
    & Pick<Checkpoint, "id" | "tokenizer" | "chatTemplate" | "digest">
    & {
      readonly config: Pick<
        DecoderConfig,
        "vocabSize" | "maxPositions" | "bosTokenId" | "eosTokenIds"
      >;
    }
    & Partial<Pick<Checkpoint, "path" | "templateChoice">>;
  readonly engine: ServedEngine;
  /** Where an encoder is served. */
  readonly encoder?: ServedEncoder | undefined;
  readonly registry: AdapterRegistry;
  /** Where `/v1/load_lora_adapter` reads; undefined = it does not. */
  readonly directory: AdapterDirectory | undefined;
  /** Where the checkpoint came from, for `/v1/models`. */
  readonly source: string;
  readonly device: string;
  /** What is served. */
  readonly dtype: string;
  /** Of the file's linears, those with most numbers first. */
  readonly weightTypes: readonly string[];
  /** What serving costs, where it was measured. */
  readonly quality?: MeasuredQuality | undefined;
  readonly maxBatch: number;
  readonly sampling: SamplingDefaults;
  /** Resolves when what computes can no longer be used; undefined = that cannot be. */
  readonly deviceFailed?: Promise<Error>;
  /** Trains over this base; undefined = the server only serves. */
  readonly training?: LoadedTraining | undefined;
  close(): Promise<void>;
}

/** Loads the model that the flags name; its engine reports to `listener`. */
export type Loader = (flags: ServeFlags, listener: EngineListener, log: Log) => Promise<Loaded>;

/** Serves tuned models, and continues jobs, over a loaded model. */
export function startTuning(
  loaded: Loaded,
  store: Store,
  flags: Pick<ServeFlags, "trainJobs" | "maxFile">,
  { log, metrics }: Pick<ServerContext, "log" | "metrics">,
): Promise<FineTuning> {
  return FineTuning.start({
    store,
    registry: loaded.registry,
    backend: loaded.training && backendOf(loaded, loaded.training),
    model: loaded.checkpoint.id,
    maxJobs: flags.trainJobs,
    maxFileBytes: flags.maxFile,
    log,
    metrics: metrics.training,
  });
}

/** Batches of requests to a loaded model; nothing runs before their `start`. */
export function openBatches(
  { checkpoint, maxBatch }: Loaded,
  store: Store,
  { log, metrics }: Pick<ServerContext, "log" | "metrics">,
): Promise<BatchRunner> {
  const base = checkpoint.id;
  return BatchRunner.open({ store, log, metrics: metrics.batches, base, rows: maxBatch });
}

function backendOf({ checkpoint, engine }: Loaded, training: LoadedTraining): TrainingBackend {
  const { trainer, maxContext } = training;
  const { path, config, templateChoice: template } = checkpoint;
  return {
    trainer,
    defaultFactors: () => training.defaultFactors(),
    reader: path === undefined
      ? (file, options) => readDatasetInTurns(file, { source: checkpoint, maxContext, ...options })
      : (file, options) => readDatasetOnThread(file, { path, template, maxContext, ...options }),
    base: () => checkpoint.digest(),
    teacher: (adapter) =>
      new Teacher({ engine, adapter, tenant: adapter.tenant, vocabSize: config.vocabSize }),
  };
}

/** What the base is called beside its checkpoint's name: what the flags say, and its hub id. */
function namesOf(
  source: string,
  served: readonly string[] = [],
): Pick<ServedModel, "served" | "aliases"> {
  const hub = hubName(source);
  return {
    served: served.length === 0 ? undefined : served,
    aliases: hub === undefined ? [] : [hub],
  };
}

/** The routes' context of a loaded model. */
export async function toContext(
  loaded: Loaded,
  { thread, ...parts }:
    & Omit<ServerContext, "engine" | "adapters" | "lifecycle" | "model">
    & Pick<ServedModel, "thread">,
): Promise<ServerContext> {
  const { checkpoint, engine, registry } = loaded;
  const { toolCallParser, reasoningParser } = parts.options;
  return {
    ...parts,
    engine,
    encoder: loaded.encoder,
    adapters: new Catalog({
      registry,
      directory: loaded.directory,
      stored: parts.tuning?.cores,
      tuned: parts.tuning?.tuned,
      admit: parts.access?.admit,
    }),
    lifecycle: new Lifecycle(),
    model: {
      id: checkpoint.id,
      ...namesOf(loaded.source, parts.options.servedModelNames),
      root: loaded.source,
      created: unixSeconds(),
      digest: await checkpoint.digest(),
      dtype: loaded.dtype,
      weightTypes: loaded.weightTypes,
      quality: loaded.quality,
      device: loaded.device,
      // a model's padding beyond its tokenizer's vocabulary spells nothing
      vocabSize: Math.min(checkpoint.config.vocabSize, checkpoint.tokenizer.vocabSize),
      bosTokenId: checkpoint.config.bosTokenId,
      eosTokenIds: checkpoint.config.eosTokenIds,
      tokenizer: checkpoint.tokenizer,
      chatTemplate: checkpoint.chatTemplate,
      callFormat: toolCallParser === "auto" ? undefined : toolCallParser,
      reasoning: reasoningParser === "auto"
        ? reasoningFormatOf(checkpoint.chatTemplate?.source ?? "")
        : reasoningParser === "none"
        ? undefined
        : reasoningParser,
      sampling: loaded.sampling,
      thread,
    },
  };
}
