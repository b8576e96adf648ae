/**
 * Adapters to measure with: a random factor set of any rank, and as many different random cores as
 * a bench wants, in memory or as files. They cost what
 * trained ones cost, and are small enough that the text stays text.
 */
import { type Core, coreFrom, toResident } from "../adapters/lotr/core.ts";
import type { FactorSet } from "../adapters/lotr/factors.ts";
import { writeCore, writeFactors } from "../adapters/lotr/format.ts";
import { randomFactors } from "../adapters/lotr/make/makers.ts";
import { gaussian } from "../src/util/random.ts";
import type { Stack } from "../adapters/lotr/stack.ts";
import type { DecoderConfig } from "../src/checkpoint/checkpoint.ts";
import type { ResidentCore } from "../src/executor/model.ts";
import { type ModuleName, SITE_OF } from "../src/models/hook.ts";
import type { Lora } from "../src/models/lora.ts";
import { inputsOf, outputsOf } from "../src/models/widths.ts";

/** The shapes of the default model, under no model's digest. */
export const STACK: Stack = {
  base: "0".repeat(64),
  layers: 30,
  inputs: { attn_in: 576, attn_out: 576, mlp_in: 576, mlp_mid: 1536 },
  outputs: {
    q_proj: 576,
    k_proj: 192,
    v_proj: 192,
    o_proj: 576,
    gate_proj: 1536,
    up_proj: 1536,
    down_proj: 576,
  },
};

/** Standard deviation of a core's elements. */
const SPREAD = 0.02;

/** Orthonormal random factors on q and v. */
export function benchFactors(stack: Stack, rank: number): FactorSet {
  return randomFactors({ stack, rank, seed: 1 });
}

/** Core number k of an endless row of different ones. */
export function benchCore(factors: FactorSet, k: number): Core {
  const { layers, modules, rank } = factors;
  const values = gaussian(k, 7, layers * modules.length * rank ** 2);
  return coreFrom(factors, rank, Float32Array.from(values, (value) => SPREAD * value));
}

/** Cores 0 … count-1 as a lane wants them. */
export function residentCores(factors: FactorSet, count: number): readonly ResidentCore[] {
  return Array.from({ length: count }, (_, k) => toResident(benchCore(factors, k), factors));
}

/** LoRA number k of an endless row of different ones, of one rank at some linears of all layers. */
export function benchLora(
  config: DecoderConfig,
  { rank, modules }: { readonly rank: number; readonly modules: readonly ModuleName[] },
  k: number,
): Lora {
  const numbers = (count: number, stream: number, size: number) =>
    Float32Array.from(gaussian(k, stream, count), (value) => size * value);
  const linears = Array.from(
    { length: config.numLayers },
    (_, layer) =>
      modules.map((module, m) => {
        const inputs = inputsOf(config, SITE_OF[module]);
        const stream = 100 + 20 * layer + 2 * m;
        return {
          ...{ layer, module, rank, scale: 1 },
          a: numbers(rank * inputs, stream, 1 / Math.sqrt(inputs)),
          b: numbers(outputsOf(config, module) * rank, stream + 1, SPREAD),
        };
      }),
  ).flat();
  return { digest: `bench ${k}, rank ${rank} on ${modules}`, linears };
}

/** Files for a server: a factor set and `count` cores in float16. */
export interface Shelf {
  readonly directory: string;
  readonly factors: string;
  readonly cores: readonly string[];
}

/** Writes a factor set and its cores into a directory. */
export async function writeShelf(
  factors: FactorSet,
  count: number,
  directory: string,
): Promise<Shelf> {
  await Deno.mkdir(`${directory}/cores`, { recursive: true });
  const path = `${directory}/factors.safetensors`;
  await Deno.writeFile(path, writeFactors(factors));
  const cores: string[] = [];
  for (let k = 0; k < count; k++) {
    const file = `${directory}/cores/a${k}.safetensors`;
    await Deno.writeFile(file, writeCore(benchCore(factors, k), "float16"));
    cores.push(file);
  }
  return { directory: `${directory}/cores`, factors: path, cores };
}
