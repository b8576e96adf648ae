/**
 * The factor set that a base gets where nobody brings one: the `gradient` maker on the general
 * text, made once and kept in the cache directory.
 */
import { createHash } from "node:crypto";
import { createOnce } from "../../../src/checkpoint/fetch/cache.ts";
import { cacheDirectory } from "../../../src/util/cache_directory.ts";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import type { ModuleName } from "../../../src/models/hook.ts";
import type { GradientSource } from "../../../src/train/gradients/gradient_source.ts";
import type { Example } from "../../../src/train/gradients/model.ts";
import { settle } from "./assemble.ts";
import { corpusDigest, generalText, textExamples } from "./corpus.ts";
import type { FactorSet } from "../factors.ts";
import { readFactors, writeFactors } from "../format.ts";
import type { MakerProgress } from "./gradient_factors.ts";
import { gradientFactors } from "./gradient_maker.ts";
import { stackOf } from "../stack.ts";

/** Part of the cache's key: raised whenever the same text would give other factors. */
const MAKER = "gradient/1";
const FILE = "factors.safetensors";

export interface DefaultFactorsOptions {
  readonly checkpoint: Pick<Checkpoint, "config" | "digest" | "tokenizer">;
  /** Opens what computes gradients; not called where the set is in the cache. Released after use. */
  readonly openSource: () => GradientSource | Promise<GradientSource>;
  /** Default 32. */
  readonly rank?: number | undefined;
  /** Default q_proj and v_proj. */
  readonly modules?: readonly ModuleName[] | undefined;
  /** Calibration examples; default: the general text. */
  readonly examples?: readonly Example[] | undefined;
  readonly progress?: ((progress: MakerProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Where sets are kept; default: `factors` in the cache directory. */
  readonly directory?: string | undefined;
}

/**
 * The set from the cache, or made now: about a minute for the default base. Whoever asks at the
 * same time, in this process or another, waits for the one who makes it. Sets made on different
 * machines differ by rounding and so by digest: cores travel with their factor file.
 *
 * @throws {RangeError | TypeError} for a rank, modules or examples that are not possible
 * @throws {DOMException} AbortError where `signal` fires
 */
export async function defaultFactors(options: DefaultFactorsOptions): Promise<FactorSet> {
  const { checkpoint, openSource, progress, signal } = options;
  const { tokenizer, config } = checkpoint;
  const examples = options.examples ??
    textExamples(generalText(), tokenizer, config.maxPositions);
  const { stack, rank, modules } = settle({
    stack: stackOf(await checkpoint.digest(), checkpoint.config),
    rank: options.rank,
    modules: options.modules,
  });
  const key = { maker: MAKER, base: stack.base, corpus: corpusDigest(examples), rank, modules };
  const name = createHash("sha256").update(JSON.stringify(key)).digest("hex");
  const path = `${options.directory ?? `${cacheDirectory()}/factors`}/${name}`;
  await createOnce(path, async (partial) => {
    const source = await openSource();
    try {
      const making = { stack, rank, modules, source, examples, progress, signal };
      const { factors } = await gradientFactors(making);
      await Deno.writeFile(`${partial}/${FILE}`, writeFactors(factors));
    } finally {
      source.release();
    }
  });
  const factors = readFactors(await Deno.readFile(`${path}/${FILE}`));
  factors.checkStack(stack);
  return factors;
}
