/**
 * A base model opened from a spec: fetched where it is missing, its checkpoint read, its channel
 * scales calibrated once and kept in the cache directory.
 */
import { writeAtomically } from "../src/checkpoint/fetch/cache.ts";
import { cacheDirectory } from "../src/util/cache_directory.ts";
import type { Checkpoint, DecoderConfig, TemplateChoice } from "../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../src/checkpoint/open.ts";
import { resolveModel, type ResolveOptions } from "../src/checkpoint/fetch/resolve.ts";
import { Base } from "../src/executor/base.ts";
import { GRANULE_TOKENS, KvCache, tokensWithin } from "../src/executor/kv_cache.ts";
import { CALIBRATION_METHOD } from "../src/executor/calibrate.ts";
import { SPARE_TOKENS } from "../src/executor/device/prompts.ts";
import { floatsOf } from "../src/executor/plan/device_floats.ts";
import { chooseDtype, deviceDtype, type DtypeChoice } from "../src/executor/precision.ts";
import { calibrationText } from "../src/models/calibration.ts";
import type { Smoothing } from "../src/models/parameters.ts";
import { readSmoothing, writeSmoothing } from "../src/models/smooth.ts";
import type { Device } from "../src/runtime/device.ts";
import { type DeviceKind, openDevice } from "../src/runtime/open.ts";
import type { FloatType } from "../src/util/floats.ts";
import { textDigest } from "../src/util/ids.ts";
import { isLarge, openPrepared } from "./prepared_weights.ts";

export interface BaseSpec extends TemplateChoice {
  /** Default: SmolLM2-135M-Instruct. */
  readonly model?: string | undefined;
  /** Default: the CPU. */
  readonly device?: DeviceKind | undefined;
  readonly dtype: DtypeChoice;
  readonly maxBatch: number;
  /** Default, and at most: the model's own limit, or what memory for keys and values holds. */
  readonly maxContext?: number | undefined;
  /** Default: the physical cores. */
  readonly threads?: number | undefined;
  /** Bytes of keys and values; default: a third of the machine's memory, `DEVICE_KV_MEMORY` elsewhere. */
  readonly kvMemory?: number | undefined;
  readonly progress?: NonNullable<ResolveOptions["progress"]> | undefined;
  /** Is told of what a graphics device does not do as it should. */
  readonly onWarning?: ((message: string) => void) | undefined;
}

/** What was opened; close it, base first. */
export interface LoadedBase {
  readonly checkpoint: Checkpoint;
  readonly device: Device;
  readonly base: Base;
}

/**
 * Bytes of keys and values in a device's own memory where nobody says: unlike the CPU's they are
 * reserved, each slot at full length.
 */
export const DEVICE_KV_MEMORY = 512 * 2 ** 20;

/**
 * @throws {TypeError | RangeError} saying which model or option does not fit, and why
 * @throws {Deno.errors.NotSupported} saying what the device lacks
 */
export async function loadBase(spec: BaseSpec): Promise<LoadedBase> {
  using opened = new DisposableStack();
  const device = opened.use(openDevice(spec.device ?? "cpu"));
  // what it cannot compute is refused before anything is fetched
  if (spec.dtype !== "auto") await floatsOf(device, spec.dtype);
  const { progress } = spec;
  const path = await resolveModel(spec.model, progress && { progress });
  const checkpoint = opened.use(
    await openCheckpoint(path, templateOf(spec)).catch(rethrowOf(spec.model)),
  );
  const base = await loadWeights(device, checkpoint, spec);
  opened.move();
  return { checkpoint, device, base };
}

function templateOf({ chatTemplate, chatTemplateKwargs }: BaseSpec): TemplateChoice {
  return { chatTemplate, chatTemplateKwargs };
}

/** What is at a spec and cannot be opened is told by the spec. */
function rethrowOf(spec: string | undefined): (cause: unknown) => never {
  return (cause) => {
    if (spec === undefined || !(cause instanceof Error)) throw cause;
    throw new TypeError(`Cannot use --model ${spec}: ${cause.message}`, { cause });
  };
}

/** Loads an open checkpoint's weights. */
export async function loadWeights(
  device: Device,
  checkpoint: Checkpoint,
  spec: Omit<BaseSpec, "model" | "device">,
): Promise<Base> {
  const { dtype, maxBatch, progress, threads, onWarning } = spec;
  const onCpu = device.name === "cpu";
  const calibration = calibrationText();
  const kept = await KeptSmoothing.open(checkpoint, calibration);
  const served = onCpu ? chooseDtype(dtype, checkpoint, maxBatch) : deviceDtype(dtype, checkpoint);
  const activations = await floatsOf(device, served);
  // what is on disk is as the CPU's kernels read it
  const files = onCpu && isLarge(checkpoint)
    ? (scales: Smoothing | undefined) => openPrepared(device, checkpoint, scales, progress)
    : undefined;
  const base = await Base.load(device, checkpoint, {
    dtype: served,
    activations,
    maxBatch,
    maxContext: onCpu
      ? contextOf(checkpoint.config, spec)
      : deviceContext(checkpoint.config, spec, activations),
    // encoding takes a tokenizer that is not made yet
    calibration: kept.smoothing === undefined ? checkpoint.tokenizer.encode(calibration) : [],
    ...(kept.smoothing === undefined ? {} : { smoothing: kept.smoothing }),
    ...(files === undefined ? {} : { files }),
    ...(threads === undefined ? {} : { threads }),
    ...(onWarning === undefined ? {} : { onWarning }),
  });
  try {
    await kept.keep(base.smoothing);
    return base;
  } catch (error) {
    base.release();
    throw error;
  }
}

/**
 * Tokens that a row may have. A model's limit can be far beyond what memory holds, and every slot
 * and table is reserved for a row of that length.
 */
function contextOf(
  { maxPositions, numLayers, numKvHeads, headDim }: DecoderConfig,
  { maxContext = Infinity, kvMemory = Deno.systemMemoryInfo().total / 3 }: Pick<
    BaseSpec,
    "maxContext" | "kvMemory"
  >,
  dtype: FloatType = "float32",
): number {
  const token = KvCache.bytesPerToken({ layers: numLayers, kvHeads: numKvHeads, headDim, dtype });
  // a row of a few tokens always has a place: the engine says that so little memory will not do
  const held = Math.max(GRANULE_TOKENS, tokensWithin(kvMemory, token));
  return Math.min(maxContext, maxPositions, held);
}

/** The same where all slots, and a row apart, are reserved at full length and a token more. */
function deviceContext(
  config: DecoderConfig,
  { maxContext, maxBatch, kvMemory = DEVICE_KV_MEMORY }: Pick<
    BaseSpec,
    "maxContext" | "maxBatch" | "kvMemory"
  >,
  activations: FloatType,
): number {
  const { numLayers: layers, numKvHeads: kvHeads, headDim } = config;
  const token = KvCache.bytesPerToken({ layers, kvHeads, headDim, dtype: activations });
  const held = kvMemory / (maxBatch + 1) - SPARE_TOKENS * token;
  return contextOf(config, { maxContext, kvMemory: held }, activations);
}

/** Channel scales in the cache directory, by the digests of the base and of the text. */
class KeptSmoothing {
  private constructor(readonly path: string, readonly smoothing: Smoothing | undefined) {}

  static async open(checkpoint: Checkpoint, text: string): Promise<KeptSmoothing> {
    const hash = textDigest(`${await checkpoint.digest()}\n${CALIBRATION_METHOD}\n${text}`);
    const path = `${cacheDirectory()}/smoothing/${hash}.json`;
    return new KeptSmoothing(path, await readKept(path, checkpoint));
  }

  /** Writes new scales down; what was read is there already. */
  async keep(smoothing: Smoothing | undefined): Promise<void> {
    if (smoothing === undefined || smoothing === this.smoothing) return;
    await writeAtomically(this.path, writeSmoothing(smoothing));
  }
}

async function readKept(path: string, { config }: Checkpoint): Promise<Smoothing | undefined> {
  try {
    return readSmoothing(await Deno.readTextFile(path), config);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
