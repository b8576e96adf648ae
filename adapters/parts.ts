/**
 * What a `Lembas` stands on: a base loaded, its factor sets and adapters, its grammars, opened in one
 * order and released in the other. Trap: a base is released before its device and checkpoint.
 */
import type {
  Checkpoint,
  SamplingDefaults,
  TemplateChoice,
  Tokenizer,
} from "../src/checkpoint/checkpoint.ts";
import type { ResolveOptions } from "../src/checkpoint/fetch/resolve.ts";
import { type GenerationConfig, samplingDefaults } from "../src/checkpoint/sampling_defaults.ts";
import type { Base } from "../src/executor/base.ts";
import type { DtypeChoice } from "../src/executor/precision.ts";
import { checkLane } from "../src/engine/lane_pool.ts";
import type { EngineListener } from "../src/engine/metrics.ts";
import { DEFAULT_SAMPLING, validateSampling } from "../src/engine/request/sampling.ts";
import { DEFAULT_LANE_MEMORY, type LaneOptions } from "../src/engine/state.ts";
import { GrammarPool } from "../src/grammar/pool.ts";
import { type Choice, chooseDevices, openFirst, UnfitDeviceError } from "../src/runtime/auto.ts";
import type { Device } from "../src/runtime/device.ts";
import { DeviceLock } from "../src/runtime/device_lock.ts";
import type { DeviceKind } from "../src/runtime/open.ts";
import { AdapterDirectory, type ScanWarning } from "./catalog/directory.ts";
import type { FactorSet } from "./lotr/factors.ts";
import { readFactors } from "./lotr/format.ts";
import type { MakerProgress } from "./lotr/make/gradient_factors.ts";
import { loadBase, type LoadedBase } from "./loaded_base.ts";
import { KeptQuality, type MeasuredQuality, qualityWarning } from "./quality.ts";
import { AdapterRegistry } from "./catalog/registry.ts";
import { MAX_RANK, stackOf } from "./lotr/stack.ts";

/** A device, or "auto" for the first that works of CUDA, WebGPU on a card, and the CPU. */
export type DeviceChoice = "auto" | DeviceKind;

/** What to load and how much memory it may take. */
export interface LembasOptions extends TemplateChoice {
  /** A path, `hf:owner/name` or `pypi:package==version`; default: SmolLM2-135M-Instruct. */
  readonly model?: string;
  /** Factor sets, or files of them. */
  readonly factors?: readonly (FactorSet | string)[];
  /** A directory of adapters, scanned now. */
  readonly adapters?: string;
  /** Default "auto". "webgpu" computes in float16 where its shaders do. */
  readonly device?: DeviceChoice;
  /** Default "auto": by the file's weight types and `maxBatch`. */
  readonly dtype?: DtypeChoice;
  /** Rows of a batch. Default 32; 1 chooses kernels for one row at a time. */
  readonly maxBatch?: number;
  /**
   * Tokens of prompt and completion. Default, and at most: the model's own limit, or fewer where memory
   * for keys and values does not hold as many.
   */
  readonly maxContext?: number;
  /** Where the sampling of requests that say nothing of it comes from. Default "auto". */
  readonly generationConfig?: GenerationConfig;
  /**
   * Bytes of keys and values. Default: a third of the memory that is free now; 512 MiB on a device with
   * memory of its own, where each lane reserves them whole.
   */
  readonly kvMemory?: number;
  /**
   * Bytes of lanes that come and go with their factor sets, none of which may take more by itself.
   * Default 1 GiB.
   */
  readonly laneMemory?: number;
  /** Bytes of resident cores and LoRAs. Default 512 MiB. */
  readonly coreMemory?: number;
  /** The highest rank of a LoRA that is served, to 64. Default 64. */
  readonly maxLoraRank?: number;
  /** Samples that may wait. Default 1024. */
  readonly maxQueue?: number;
  /** How much of the device training may take while requests run, above 0 to 1. Default 0.25. */
  readonly trainShare?: number;
  /**
   * Whether text that a grammar forces is computed several tokens at a time. Default false: each
   * token is computed as it is in a step, so that a text does not depend on how many rows run.
   */
  readonly jumpForward?: boolean;
  readonly listener?: EngineListener;
  /** Hears of the default factor set being made, when training first needs it. */
  readonly onFactors?: (progress: MakerProgress) => void;
  readonly progress?: NonNullable<ResolveOptions["progress"]>;
  /**
   * Is told of what the model's files leave out, of each file under `adapters` that could not be
   * used, of a base that loses more than 1% by how it is served, of a graphics device that computes
   * prompts or steps in a slower way, and of one that "auto" tried in vain.
   */
  readonly onWarning?: (warning: ScanWarning) => void;
}

/** Rows of a batch where nobody says. */
export const DEFAULT_BATCH = 32;
/** Most tokens of a jump: with the one before them they are a run of 16. */
const FORESIGHT = 15;

/** What a `Lembas` stands on, in the order in which it is opened. */
export interface Parts {
  readonly checkpoint: Checkpoint;
  readonly device: Device;
  readonly base: Base;
  /** What serving costs it; undefined where nobody measured. */
  readonly quality: MeasuredQuality | undefined;
  readonly registry: AdapterRegistry;
  readonly directory: AdapterDirectory | undefined;
  readonly grammars: GrammarPool;
  readonly deviceLock: DeviceLock;
  /** What holds where a request says nothing. */
  readonly sampling: SamplingDefaults;
  /** The lane that stays. */
  readonly lane: LaneOptions;
  /** What "auto" took; undefined where a device was asked for. */
  readonly chosen: Choice | undefined;
}

/**
 * Opens on the device that is asked for, or on the first that works.
 * @throws as `Lembas.load`
 */
export async function openParts(options: LembasOptions): Promise<Parts> {
  const { device = "auto", onWarning } = options;
  if (device !== "auto") return { ...await openOn(device, options), chosen: undefined };
  const { opened, ...chosen } = await openFirst(
    chooseDevices(),
    async (device) => {
      const parts = await openOn(device, options);
      if (device !== "cpu") await tryOut(parts);
      return parts;
    },
    (path, message) => onWarning?.({ path, message }),
  );
  return { ...opened, chosen };
}

/** What an attempt that fails would have warned of is nobody's concern. */
async function openOn(device: DeviceKind, options: LembasOptions): Promise<Omit<Parts, "chosen">> {
  let early: ScanWarning[] | undefined = [];
  const tell = (warning: ScanWarning) => {
    if (early === undefined) options.onWarning?.(warning);
    else early.push(warning);
  };
  const parts = await openTelling(device, { ...options, onWarning: tell });
  for (const warning of early) options.onWarning?.(warning);
  early = undefined;
  return parts;
}

async function openTelling(
  device: DeviceKind,
  options: LembasOptions,
): Promise<Omit<Parts, "chosen">> {
  const { dtype = "auto", maxBatch = DEFAULT_BATCH, progress } = options;
  const { model, chatTemplate, chatTemplateKwargs, maxContext, kvMemory } = options;
  const onWarning = (message: string) => options.onWarning?.({ path: device, message });
  const spec = {
    ...{ model, chatTemplate, chatTemplateKwargs, device, dtype, maxBatch, maxContext },
    ...{ kvMemory, progress, onWarning },
  };
  const loaded = await loadBase(spec);
  using opened = new DisposableStack();
  opened.defer(() => releaseBase(loaded));
  const { checkpoint, base } = loaded;
  const registry = new AdapterRegistry({
    stack: stackOf(await checkpoint.digest(), checkpoint.config),
    ...(device === "cpu"
      ? { loras: { base, maxRank: Math.min(options.maxLoraRank ?? MAX_RANK, MAX_RANK) } }
      : {}),
  });
  const directory = await openAdapters(options, registry, base);
  for (const message of checkpoint.warnings) {
    options.onWarning?.({ path: checkpoint.id, message });
  }
  const { measured: quality } = await KeptQuality.open(checkpoint, base);
  const loss = quality && qualityWarning(quality);
  if (loss !== undefined) options.onWarning?.({ path: base.dtype, message: loss });
  const sampling = await defaultsOf(checkpoint, options);
  const { tokenizer, config } = checkpoint;
  const grammars = new GrammarPool({
    tokenizer,
    vocabSize: config.vocabSize,
    stopTokens: config.eosTokenIds,
    foresight: options.jumpForward ? FORESIGHT : 0,
  });
  opened.defer(() => grammars.close());
  const lane = await firstLane({ base, registry, checkpoint });
  opened.move();
  const deviceLock = new DeviceLock();
  return { ...loaded, quality, registry, directory, grammars, deviceLock, sampling, lane };
}

/** Runs a device's first steps. @throws where they fail, or come to what is no number */
async function tryOut(parts: Omit<Parts, "chosen">): Promise<void> {
  const { base, lane: { model } } = parts;
  try {
    if (!base.promptsHold) throw new UnfitDeviceError("attention over prompts is wrong on it");
    const row = { row: 0, temperature: 0, uniform: 0, logprobs: 0 };
    await model.prefill([{ slot: 0, tokens: [0], past: 0, last: true }]);
    const [first] = await model.sample([row]);
    await model.decode([first?.token ?? 0], [1]);
    const [second] = await model.sample([row]);
    model.free(0);
    if ([first, second].every((drawn) => Number.isFinite(drawn?.logprob))) return;
    throw new UnfitDeviceError("what it computes are no numbers");
  } catch (error) {
    release(parts);
    throw error;
  }
}

/** @throws {TypeError} where they are not there, or not ones that a request could have */
async function defaultsOf(
  checkpoint: Checkpoint,
  { generationConfig = "auto" }: LembasOptions,
): Promise<SamplingDefaults> {
  const sampling = await samplingDefaults(generationConfig, checkpoint);
  try {
    validateSampling({ ...DEFAULT_SAMPLING, ...sampling }, checkpoint.config.vocabSize);
    return sampling;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TypeError(
      `Cannot use generation config '${generationConfig}': ${reason}. 'none' leaves it out`,
      { cause },
    );
  }
}

/**
 * Factor sets first, then the directory with its cores.
 * @throws {RangeError} for a set given by name whose lane is larger than lane memory
 */
async function openAdapters(
  { factors = [], adapters, onWarning, laneMemory = DEFAULT_LANE_MEMORY }: LembasOptions,
  registry: AdapterRegistry,
  base: Base,
): Promise<AdapterDirectory | undefined> {
  for (const given of factors) {
    const set = typeof given === "string" ? await readSet(given) : given;
    registry.factors.add(set);
    checkLane(set.digest, base.laneBytes(set), laneMemory);
  }
  return await openDirectory({ adapters, onWarning }, registry);
}

/** The directory with its adapters registered; what cannot be read is skipped, with a warning. */
export async function openDirectory(
  { adapters, onWarning }: {
    readonly adapters?: string | undefined;
    readonly onWarning?: ((warning: ScanWarning) => void) | undefined;
  },
  registry: AdapterRegistry,
): Promise<AdapterDirectory | undefined> {
  if (adapters === undefined) return undefined;
  const directory = await AdapterDirectory.open(adapters, registry);
  const { warnings } = await directory.scan();
  for (const { path, message } of warnings) onWarning?.({ path, message: `skipped: ${message}` });
  return directory;
}

/** @throws {TypeError} naming the file */
export async function readSet(path: string): Promise<FactorSet> {
  try {
    return readFactors(await Deno.readFile(path));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TypeError(`Cannot use --factors ${path}: ${reason}`, { cause });
  }
}

/**
 * The lane that stays: of the first factor set, or of the base alone where there is none. While it is
 * compiled off the event loop, the tokenizer gets ready.
 */
async function firstLane(
  { base, registry, checkpoint }: Pick<Parts, "base" | "registry" | "checkpoint">,
): Promise<LaneOptions> {
  const [set] = registry.factors.inMemory();
  const [model] = await Promise.all([base.lane(set), readied(checkpoint.tokenizer)]);
  return { factors: set?.digest, model, bytes: base.laneBytes(set) };
}

/** Makes what the first text would wait for, a turn of the event loop later. */
async function readied(tokenizer: Tokenizer): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve));
  tokenizer.leastTokens(" ");
  tokenizer.encode(" ");
}

export function release({ grammars, ...loaded }: Pick<Parts, "grammars" | keyof LoadedBase>): void {
  grammars.close();
  releaseBase(loaded);
}

function releaseBase({ base, device, checkpoint }: LoadedBase): void {
  base.release();
  device.release();
  checkpoint.close();
}
