/**
 * The whole of an encoder without HTTP: its checkpoint opened, its weights on the CPU, factor sets and
 * cores, and the engine over them. It owns what it opens until closed.
 */
import { type EncoderCheckpoint, openEncoder } from "../src/checkpoint/encoder/open.ts";
import type { Framed } from "../src/checkpoint/encoder/frame.ts";
import { EmbedEngine } from "../src/engine/embed/embed_engine.ts";
import type { EngineListener } from "../src/engine/metrics.ts";
import { EncoderBase, type EncoderDtype } from "../src/executor/encoder/encoder_base.ts";
import { linearTypes } from "../src/executor/precision.ts";
import type { WeightType } from "../src/checkpoint/checkpoint.ts";
import {
  afterPooling,
  classifierOf,
  type VectorStep,
} from "../src/models/encoder/after_pooling.ts";
import type { Device } from "../src/runtime/device.ts";
import { openDevice } from "../src/runtime/open.ts";
import { CoreCache } from "./catalog/cache.ts";
import type { AdapterDirectory, ScanWarning } from "./catalog/directory.ts";
import { AdapterRegistry } from "./catalog/registry.ts";
import type { FactorSet } from "./lotr/factors.ts";
import { openDirectory, readSet } from "./parts.ts";
import { encoderStack } from "./lotr/stack.ts";

export interface EncoderOptions {
  /** A path of an encoder's directory. */
  readonly path: string;
  /** Default: fp32. */
  readonly dtype?: EncoderDtype;
  /** Factor sets, or files of them. */
  readonly factors?: readonly (FactorSet | string)[];
  /** A directory of factor sets and cores. */
  readonly adapters?: string | undefined;
  /** Bytes of resident cores; default: 512 MiB. */
  readonly coreMemory?: number | undefined;
  /** Texts of a pass; default: 64. */
  readonly maxRows?: number | undefined;
  /** Tokens of a text; default, and at most: the model's own limit. */
  readonly maxTokens?: number | undefined;
  /** Requests that wait or run at once; default: 1024. */
  readonly maxQueue?: number | undefined;
  readonly threads?: number | undefined;
  readonly listener?: EngineListener | undefined;
  readonly onWarning?: ((warning: ScanWarning) => void) | undefined;
}

const DEFAULT_ROWS = 64;
const DEFAULT_QUEUE = 1024;
const DEFAULT_CORE_MEMORY = 512 * 2 ** 20;
/** Characters that are read of a long text for each token that is wanted, to begin with. */
const CHARACTERS_A_TOKEN = 16;
/** Tokens of a pass: what the kernels fill well, and no tenant waits long behind. */
const PASS_TOKENS = 4096;

export class EncoderModel implements AsyncDisposable {
  readonly checkpoint: EncoderCheckpoint;
  readonly engine: EmbedEngine;
  readonly registry: AdapterRegistry;
  readonly directory: AdapterDirectory | undefined;
  readonly dtype: EncoderDtype;
  /** Tokens of the longest text, special ones included: what is longer is cut. */
  readonly maxTokens: number;
  readonly weightTypes: readonly WeightType[];
  readonly maxRows: number;
  /** What stands behind pooling. */
  readonly finish: VectorStep;
  /** What a classifier says of what pooling gave, by label; undefined = the model is none. */
  readonly classify: VectorStep | undefined;
  readonly #device: Device;
  readonly #base: EncoderBase;

  private constructor(parts: {
    readonly checkpoint: EncoderCheckpoint;
    readonly device: Device;
    readonly base: EncoderBase;
    readonly registry: AdapterRegistry;
    readonly directory: AdapterDirectory | undefined;
  }, options: EncoderOptions) {
    const { checkpoint, device, base, registry, directory } = parts;
    const { maxRows = DEFAULT_ROWS, dtype = "fp32" } = options;
    this.checkpoint = checkpoint;
    this.registry = registry;
    this.directory = directory;
    this.dtype = dtype;
    this.maxRows = maxRows;
    this.maxTokens = Math.min(checkpoint.maxTokens, options.maxTokens ?? Infinity);
    this.weightTypes = linearTypes(checkpoint.weights);
    this.finish = afterPooling(checkpoint);
    this.classify = checkpoint.config.labels === undefined ? undefined : classifierOf(checkpoint);
    this.#device = device;
    this.#base = base;
    this.engine = new EmbedEngine({
      openLane: async (factors) =>
        await base.lane(factors === undefined ? undefined : await registry.factors.get(factors)),
      adapters: new CoreCache({
        loader: registry,
        maxBytes: options.coreMemory ?? DEFAULT_CORE_MEMORY,
      }),
      maxTokens: this.maxTokens,
      limits: { rows: maxRows, tokens: PASS_TOKENS, cells: 2 * PASS_TOKENS },
      maxQueue: options.maxQueue ?? DEFAULT_QUEUE,
      listener: options.listener,
    });
  }

  /** @throws {TypeError | RangeError} saying which file or option does not fit, and why */
  static async load(options: EncoderOptions): Promise<EncoderModel> {
    using opened = new DisposableStack();
    const checkpoint = opened.use(await openEncoder(options.path));
    const device = opened.use(openDevice("cpu"));
    const { dtype = "fp32", maxRows = DEFAULT_ROWS, threads } = options;
    const base = await EncoderBase.load(device, checkpoint, { dtype, maxRows, threads });
    opened.defer(() => base.release());
    const stack = encoderStack(await checkpoint.digest(), checkpoint.config);
    const registry = new AdapterRegistry({ stack });
    for (const given of options.factors ?? []) {
      registry.factors.add(typeof given === "string" ? await readSet(given) : given);
    }
    const directory = await openDirectory(options, registry);
    const model = new EncoderModel({ checkpoint, device, base, registry, directory }, options);
    await model.engine.ready();
    opened.move();
    return model;
  }

  /** Labels of its classifier; undefined = it has none. */
  get labels(): number | undefined {
    return this.checkpoint.config.labels;
  }

  /** Numbers of a vector. */
  get dimensions(): number {
    const { config, modules: { pooling, after } } = this.checkpoint;
    const pooled = pooling.length * config.hiddenSize;
    return after.reduce((now, step) => step.type === "dense" ? step.outputs : now, pooled);
  }

  /**
   * A text's tokens without special ones: all of them, or the first `most` and some more. Of a long
   * text no more is read than it takes; it is cut before white space, where all these tokenizers
   * begin anew.
   */
  tokens(text: string, most = Infinity): number[] {
    const { tokenizer, modules } = this.checkpoint;
    for (let size = CHARACTERS_A_TOKEN * most;; size *= 4) {
      const part = beginning(text, size);
      const cased = modules.lowerCase ? part.toLowerCase() : part;
      const ids = tokenizer.encode(cased, { addSpecialTokens: false });
      if (part.length === text.length || ids.length > most) return ids;
    }
  }

  special(of: "single" | "pair"): number {
    return this.checkpoint.frame.special(of);
  }

  /** A text's tokens, framed, and cut where they are too many. */
  frameOne(tokens: readonly number[], most: number = this.maxTokens): Framed {
    return this.checkpoint.frame.one(tokens, most);
  }

  /** Two texts' tokens as one, framed, and cut where they are too many. */
  framePair(a: readonly number[], b: readonly number[], most: number = this.maxTokens): Framed {
    return this.checkpoint.frame.two(a, b, most);
  }

  async close(): Promise<void> {
    await this.engine.close();
    this.#base.release();
    this.#device.release();
    this.checkpoint.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** At least so many characters of a text, up to a white space; the whole where there is none. */
function beginning(text: string, size: number): string {
  if (text.length <= size) return text;
  const space = /\s/g;
  space.lastIndex = size;
  const at = space.exec(text)?.index;
  return at === undefined ? text : text.slice(0, at);
}
