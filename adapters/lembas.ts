/**
 * The whole of lembas without HTTP: a base model opened and loaded, its factor sets, cores and
 * engine put together, and text or tokens generated from it. It owns what it opens until closed.
 */
import type {
  ChatMessage,
  Checkpoint,
  SamplingDefaults,
  WeightType,
} from "../src/checkpoint/checkpoint.ts";
import { DEFAULT_SPEC } from "../src/checkpoint/fetch/resolve.ts";
import { outputLimit } from "../src/checkpoint/sampling_defaults.ts";
import type { ServingDtype } from "../src/executor/base.ts";
import { linearTypes } from "../src/executor/precision.ts";
import { Engine } from "../src/engine/engine.ts";
import type {
  FinishReason,
  GenerationDelta,
  GenerationRequest,
  SamplingParams,
  ServedCore,
  Usage,
} from "../src/engine/request/request.ts";
import { DEFAULT_SAMPLING } from "../src/engine/request/sampling.ts";
import type { Choice } from "../src/runtime/auto.ts";
import { BackgroundTurns } from "../src/runtime/background.ts";
import type { Device } from "../src/runtime/device.ts";
import type { DeviceFailedError } from "../src/util/errors.ts";
import type { FloatType } from "../src/util/floats.ts";
import { readDataset } from "../src/train/data/dataset.ts";
import type { TrainProgress, TrainResult } from "./training/training.ts";
import { DEFAULT_HYPERPARAMETERS, type Hyperparameters } from "./training/hyperparameters.ts";
import { BaseTrainer } from "./training/base_trainer.ts";
import { CoreCache } from "./catalog/cache.ts";
import type { Core } from "./lotr/core.ts";
import type { AdapterDirectory } from "./catalog/directory.ts";
import type { FactorSet } from "./lotr/factors.ts";
import { readCore } from "./lotr/format.ts";
import type { MeasuredQuality } from "./quality.ts";
import { BaseLanes } from "./catalog/factor_sets.ts";
import type { AdapterRegistry } from "./catalog/registry.ts";
import { DEVICE_KV_MEMORY } from "./loaded_base.ts";
import { DEFAULT_BATCH, type LembasOptions, openParts, type Parts, release } from "./parts.ts";

/**
 * A request in text or tokens. Everything in `SamplingParams` may be given; the rest is as the model's
 * authors have it (`Lembas.sampling`), or neutral.
 */
export interface GenerateOptions extends Partial<SamplingParams> {
  /** `tenant/name`, `tenant/name@version`, or a bare name while it is unambiguous. */
  readonly adapter?: string;
  /** Isolates cached prefixes; default "default". */
  readonly tenant?: string;
  readonly signal?: AbortSignal;
}

/** How to train, in `deno task train`'s terms; what is left out is settled from the data. */
export interface TrainOptions extends Partial<Hyperparameters> {
  /** Held-out rows as JSONL: the gate compares on them. Default: a sample of the training rows. */
  readonly valid?: string;
  /** The factor set to train for. Default: the base's own, made once and kept. */
  readonly factors?: FactorSet;
  readonly signal?: AbortSignal;
  /** Hears of each step and evaluation. */
  readonly onProgress?: (progress: TrainProgress) => void;
}

export interface Generated {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finishReason: FinishReason | undefined;
  readonly usage: Usage;
}

const DEFAULT_TRAIN_SHARE = 0.25;
const DEFAULT_CORE_MEMORY = 512 * 2 ** 20;

/**
 * A loaded base with its adapters and engine.
 *
 * @example
 * ```ts
 * import { Lembas } from "@lembas/lembas";
 *
 * await using lembas = await Lembas.load({ maxBatch: 4, maxContext: 512 });
 * const { text } = await lembas.chat(
 *   [{ role: "user", content: "Say hello." }],
 *   { maxTokens: 8, temperature: 0 },
 * );
 * console.assert(text.length > 0);
 * ```
 */
export class Lembas implements AsyncDisposable {
  readonly checkpoint: Checkpoint;
  readonly engine: Engine;
  readonly registry: AdapterRegistry;
  readonly cores: CoreCache;
  /** Where adapters are read from; undefined where there is no such directory. */
  readonly directory: AdapterDirectory | undefined;
  /** The spec that the model was loaded from. */
  readonly source: string;
  readonly device: Device["name"];
  /** What "auto" took, and why nothing better; undefined where a device was asked for. */
  readonly chosen: Choice | undefined;
  /** The device's adapter in a few words, where it has one. */
  readonly adapter: string | undefined;
  /** What is served: what "auto" was taken for, or what was asked for. */
  readonly dtype: ServingDtype;
  /** The type of activations, keys, values and cores. */
  readonly activations: FloatType;
  /** Of the file's linears, those with most numbers first. */
  readonly weightTypes: readonly WeightType[];
  /** What serving costs, where `bench quality-base` has measured it. */
  readonly quality: MeasuredQuality | undefined;
  readonly maxBatch: number;
  /** What holds where a request says nothing. */
  readonly sampling: SamplingDefaults;
  /** Resolves when the device can no longer be used: the process has to start again. */
  readonly deviceFailed: Promise<DeviceFailedError>;
  /** Trains cores on the same weights and device, between the engine's steps. */
  readonly training: BaseTrainer;
  readonly #parts: Parts;

  private constructor(
    parts: Parts,
    engine: Engine,
    cores: CoreCache,
    options: LembasOptions,
  ) {
    this.deviceFailed = parts.device.failed;
    this.training = trainerOver(parts, options);
    this.#parts = parts;
    this.engine = engine;
    this.cores = cores;
    this.checkpoint = parts.checkpoint;
    this.registry = parts.registry;
    this.directory = parts.directory;
    this.source = options.model ?? DEFAULT_SPEC;
    this.device = parts.device.name;
    this.chosen = parts.chosen;
    this.adapter = parts.device.adapter;
    this.dtype = parts.base.dtype;
    this.activations = parts.base.activations;
    this.quality = parts.quality;
    this.weightTypes = linearTypes(parts.checkpoint.weights);
    this.maxBatch = options.maxBatch ?? DEFAULT_BATCH;
    this.sampling = parts.sampling;
  }

  /**
   * Fetches (once), opens and loads.
   * @throws {TypeError | RangeError} saying which model, file or option does not fit, and why
   */
  static async load(options: LembasOptions = {}): Promise<Lembas> {
    const parts = await openParts(options);
    try {
      const cores = new CoreCache({
        loader: parts.registry,
        maxBytes: options.coreMemory ?? DEFAULT_CORE_MEMORY,
      });
      const { checkpoint } = parts;
      const engine = new Engine({
        lanes: [parts.lane],
        laneSource: new BaseLanes(parts.base, parts.registry.factors),
        ...(options.laneMemory === undefined ? {} : { laneMemory: options.laneMemory }),
        adapters: cores,
        tokenizer: checkpoint.tokenizer,
        eosTokenIds: checkpoint.config.eosTokenIds,
        kvMemory: options.kvMemory ?? defaultKvMemory(parts.device),
        grammars: parts.grammars,
        deviceLock: parts.deviceLock,
        ...(options.maxQueue === undefined ? {} : { maxQueue: options.maxQueue }),
        ...(options.listener === undefined ? {} : { listener: options.listener }),
      });
      return new Lembas(parts, engine, cores, options);
    } catch (error) {
      release(parts);
      throw error;
    }
  }

  /**
   * Adds a factor set: from now on cores that name it can be registered and served. Its lane opens
   * with the first request for one of them. With a way to have it again its numbers may leave memory.
   * @throws {TypeError} where it is of another base
   */
  addFactors(factors: FactorSet, reload?: () => Promise<FactorSet>): void {
    this.registry.factors.add(factors, reload);
  }

  /**
   * Registers a core, or the bytes of a core file, under `tenant/name`.
   * @throws {TypeError | RangeError} naming the digests or shapes that do not fit
   */
  addCore(name: string, core: Core | Uint8Array): ServedCore {
    const read = core instanceof Uint8Array ? readCore(core) : core;
    return this.registry.add(name, { core: read, source: "memory" });
  }

  tokenize(text: string): number[] {
    return this.checkpoint.tokenizer.encode(text);
  }

  detokenize(tokens: readonly number[]): string {
    return this.checkpoint.tokenizer.decode(tokens);
  }

  /** Completes a prompt. */
  async generate(
    prompt: string | readonly number[],
    options: GenerateOptions = {},
  ): Promise<Generated> {
    const generation = this.engine.generate(this.#request(prompt, options));
    const tokens: number[] = [];
    let text = "";
    let finishReason: FinishReason | undefined;
    for await (const delta of generation) {
      text += delta.text;
      tokens.push(...delta.tokens);
      finishReason = delta.finishReason;
    }
    return { text, tokens, finishReason, usage: generation.usage };
  }

  /** Completes a prompt, piece by piece. */
  stream(
    prompt: string | readonly number[],
    options: GenerateOptions = {},
  ): AsyncIterable<GenerationDelta> {
    return this.engine.generate(this.#request(prompt, options));
  }

  /**
   * Answers a conversation.
   * @throws {TypeError} where the model has no chat template, or it refuses the conversation
   */
  chat(messages: readonly ChatMessage[], options: GenerateOptions = {}): Promise<Generated> {
    return this.generate(this.renderChat(messages), options);
  }

  /** A conversation as the tokens of a prompt. */
  renderChat(messages: readonly ChatMessage[]): number[] {
    const { chatTemplate, tokenizer, id } = this.checkpoint;
    if (chatTemplate === undefined) {
      throw new TypeError(`Cannot chat: ${id} has no chat template, only completion works`);
    }
    const text = chatTemplate.render(messages, { addGenerationPrompt: true });
    return tokenizer.encode(text, { addSpecialTokens: false });
  }

  /**
   * Trains a core on rows of OpenAI's fine-tuning JSONL, between the steps of running requests. It is
   * not served until it is added; `refused` says where it is no better than the base.
   *
   * @throws {DatasetError} naming broken lines; {DOMException} AbortError; {TypeError | RangeError}
   *   naming what does not fit
   *
   * @example
   * ```ts
   * import { Lembas, randomFactors } from "@lembas/lembas";
   *
   * await using lembas = await Lembas.load({ model: "tests/fixtures/models/llama", maxContext: 64 });
   * const factors = randomFactors({ stack: lembas.registry.stack, rank: 4 });
   * const row = JSON.stringify({ prompt: "The road goes", completion: " ever on" });
   * const { core } = await lembas.train(row, { factors, rank: 4, epochs: 2 });
   * lembas.addFactors(factors);
   * lembas.addCore("acme/road", core);
   * ```
   */
  async train(rows: string, options: TrainOptions = {}): Promise<TrainResult> {
    const { valid, factors, signal, onProgress, ...hyperparameters } = options;
    const { training } = this;
    const read = (text: string) =>
      readDataset(new TextEncoder().encode(text), {
        source: this.checkpoint,
        maxContext: training.maxContext,
      }).examples;
    return await training.trainer.train({
      train: read(rows),
      valid: valid === undefined ? [] : read(valid),
      hyperparameters: { ...DEFAULT_HYPERPARAMETERS, ...hyperparameters },
      ...(factors === undefined ? {} : { factors }),
      ...(signal === undefined ? {} : { signal }),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
  }

  /** Ends running requests and gives everything back. */
  async close(): Promise<void> {
    await this.training.close();
    await this.engine.close();
    release(this.#parts);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #request(prompt: string | readonly number[], options: GenerateOptions): GenerationRequest {
    const { adapter, tenant = "default", signal, ...sampling } = options;
    const core = adapter === undefined ? undefined : this.registry.resolve(adapter);
    if (adapter !== undefined && core === undefined) {
      throw new RangeError(`Cannot use adapter ${adapter}: there is none of that name`);
    }
    return {
      id: crypto.randomUUID(),
      tenant,
      prompt: typeof prompt === "string" ? this.tokenize(prompt) : prompt,
      adapter: core,
      sampling: {
        ...DEFAULT_SAMPLING,
        ...this.sampling,
        ...sampling,
        maxTokens: outputLimit(sampling.maxTokens, this.sampling),
      },
      n: 1,
      priority: 0,
      signal,
    };
  }
}

function trainerOver({ base, deviceLock }: Parts, options: LembasOptions): BaseTrainer {
  const turns = new BackgroundTurns(deviceLock, {
    share: options.trainShare ?? DEFAULT_TRAIN_SHARE,
  });
  return new BaseTrainer(base.shared, {
    turn: () => turns.take(),
    ...(options.onFactors === undefined ? {} : { onFactors: options.onFactors }),
  });
}

function defaultKvMemory({ name }: Device): number {
  if (name !== "cpu") return DEVICE_KV_MEMORY;
  return Math.floor(Deno.systemMemoryInfo().available / 3);
}
