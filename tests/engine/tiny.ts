/**
 * Tiny random checkpoints as bases, on the CPU unless told, and cores over them: the real executor without a real
 * model's weight. They know no engine.
 */
import { type Core, coreFrom } from "../../adapters/lotr/core.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { stackOf } from "../../adapters/lotr/stack.ts";
import type { Checkpoint, WeightSource } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { Base, type BaseOptions } from "../../src/executor/base.ts";
import type { ModuleName } from "../../src/models/hook.ts";
import type { Device } from "../../src/runtime/device.ts";
import { DEVICE } from "../graph/device.ts";
import { randomArray } from "../graph/run.ts";

const MODELS = new URL("../fixtures/models/", import.meta.url);

/** The folder of a fixture model. */
export function folderOf(name: string): string {
  return new URL(`${name}/`, MODELS).pathname;
}

/** A fixture checkpoint loaded on a device of its own; disposing releases all of it. */
export class Tiny implements Disposable {
  private constructor(
    readonly checkpoint: Checkpoint,
    readonly device: Device,
    readonly base: Base,
    readonly digest: string,
  ) {}

  static async open(
    name: string,
    { device = DEVICE, ...options }: Partial<BaseOptions> & {
      readonly weights?: (own: WeightSource) => WeightSource;
      readonly device?: Device;
    } = {},
  ): Promise<Tiny> {
    const opened = await openCheckpoint(folderOf(name));
    const checkpoint = options.weights === undefined
      ? opened
      : withWeights(opened, options.weights(opened.weights));
    const base = await Base.load(device, checkpoint, {
      dtype: "fp32",
      maxBatch: 6,
      maxContext: 96,
      calibration: Array.from({ length: 64 }, (_, i) => (i * 37) % checkpoint.config.vocabSize),
      ...options,
    });
    return new Tiny(checkpoint, device, base, await opened.digest());
  }

  factors(rank: number, modules: readonly ModuleName[], seed = 0): FactorSet {
    return factorsOf(this.checkpoint, this.digest, { rank, modules, seed });
  }

  [Symbol.dispose](): void {
    this.base.release();
    this.checkpoint.close();
  }
}

/** Random orthonormal factors for a checkpoint. */
export function factorsOf(
  checkpoint: Checkpoint,
  digest: string,
  options: { rank: number; modules: readonly ModuleName[]; seed?: number },
): FactorSet {
  return randomFactors({ stack: stackOf(digest, checkpoint.config), ...options });
}

/** A core of seeded normal numbers. */
export function randomCore(
  factors: FactorSet,
  seed: number,
  strength = 1,
  rank: number = factors.rank,
): Core {
  const count = factors.layers * factors.modules.length * rank ** 2;
  return coreFrom(factors, rank, randomArray(count, seed, strength));
}

/** The same checkpoint with other weights; closing it closes the first. */
export function withWeights(checkpoint: Checkpoint, weights: WeightSource): Checkpoint {
  const { path, id, config, tokenizer, chatTemplate, sampling, warnings } = checkpoint;
  return {
    ...{ path, id, config, tokenizer, chatTemplate, sampling, weights, warnings },
    digest: () => checkpoint.digest(),
    close: () => checkpoint.close(),
    [Symbol.dispose]: () => checkpoint.close(),
  };
}

/** A seeded prompt. */
export function randomPrompt(length: number, seed: number, vocab = 128): number[] {
  return Array.from(randomArray(length, seed), (x) => Math.floor(Math.abs(x) * 1e6) % vocab);
}
