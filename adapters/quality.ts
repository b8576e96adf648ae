/**
 * What serving costs a base in quality, as `bench quality-base` measured it on this machine: kept in
 * the cache directory by what decides it, the base, its kernels and its channel scales.
 */
import { textDigest } from "../src/util/ids.ts";
import { writeAtomically } from "../src/checkpoint/fetch/cache.ts";
import { cacheDirectory } from "../src/util/cache_directory.ts";
import type { Checkpoint } from "../src/checkpoint/checkpoint.ts";
import type { Base } from "../src/executor/base.ts";
import { writeSmoothing } from "../src/models/smooth.ts";

/** A served base beside its file in float32. */
export interface MeasuredQuality {
  /** Perplexity over the file's own, in percent, and its standard error. */
  readonly percent: number;
  readonly error: number;
  /** Mean KL divergence, nats. */
  readonly divergence: number;
  /** Rows whose likeliest token is the same, in percent. */
  readonly agreement: number;
  /** Tokens that were compared. */
  readonly tokens: number;
}

/** From here on people are warned, in percent of perplexity. */
const MOST_LOSS = 1;

/** What a base is served with, as far as its quality depends on it. */
type Served = Pick<Base, "kernel" | "smoothing">;

/** What was measured of a base as it is served now, if anything. */
export class KeptQuality {
  readonly #path: string;

  private constructor(path: string, readonly measured: MeasuredQuality | undefined) {
    this.#path = path;
  }

  static async open(
    checkpoint: Pick<Checkpoint, "digest">,
    base: Served,
    cache = cacheDirectory(),
  ): Promise<KeptQuality> {
    const path = await pathOf(checkpoint, base, cache);
    return new KeptQuality(path, await readKept(path));
  }

  /** Keeps what was measured, unless more tokens were compared before. */
  async keep(
    { percent, error, divergence, agreement, tokens }: MeasuredQuality,
  ): Promise<void> {
    if (this.measured !== undefined && this.measured.tokens > tokens) return;
    const text = JSON.stringify({ percent, error, divergence, agreement, tokens });
    await writeAtomically(this.#path, text);
  }
}

/** Undefined where nothing was measured, or what was kept is damaged. */
async function readKept(path: string): Promise<MeasuredQuality | undefined> {
  try {
    const kept = JSON.parse(await Deno.readTextFile(path));
    return NAMES.every((name) => Number.isFinite(kept[name])) ? kept : undefined;
  } catch {
    return undefined;
  }
}

const NAMES = ["percent", "error", "divergence", "agreement", "tokens"] as const;

/** What people are told where a base is served at a loss that shows; undefined where it is not. */
export function qualityWarning(
  { percent, error, tokens }: MeasuredQuality,
): string | undefined {
  if (percent <= MOST_LOSS) return undefined;
  return `served at +${percent.toFixed(1)} ± ${
    error.toFixed(1)
  }% of perplexity against its file in ` +
    `float32 (bench quality-base, ${tokens} tokens); another --dtype may lose less, fp32 loses nothing`;
}

async function pathOf(
  checkpoint: Pick<Checkpoint, "digest">,
  { kernel, smoothing }: Served,
  cache: string,
): Promise<string> {
  const scales = smoothing === undefined ? "" : writeSmoothing(smoothing);
  const name = `${kernel}-${textDigest(scales).slice(0, 16)}.json`;
  return `${cache}/quality/${await checkpoint.digest()}/${name}`;
}
