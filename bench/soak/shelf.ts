/**
 * What lies ready before a soak begins: tenants and factor sets in the server's store, and core files
 * in its directory of adapters. The first set is the tenants' own; the others come and go.
 */
import { coreFrom } from "../../adapters/lotr/core.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { writeCore, writeFactors } from "../../adapters/lotr/format.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { gaussian } from "../../src/util/random.ts";
import { stackOf } from "../../adapters/lotr/stack.ts";
import { openStore } from "../../adapters/store/open_store.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";

const RANK = 16;
/** Standard deviation of a core's elements. */
const SPREAD = 0.02;
/** Cores that are loaded in place, by turns. */
const FILES = 8;

export interface SoakShelf {
  readonly data: string;
  readonly adapters: string;
  readonly tenants: readonly string[];
  /** Paths below `adapters`. */
  readonly files: readonly string[];
  /** A core file of each set that comes and goes, in base64. */
  readonly guests: readonly string[];
}

export interface ShelfOptions {
  readonly model: string;
  readonly directory: string;
  readonly tenants: number;
  readonly sets: number;
}

/** Makes it all in a directory. */
export async function makeShelf(options: ShelfOptions): Promise<SoakShelf> {
  const { directory } = options;
  const [own, ...guests] = await factorSets(options);
  const tenants = Array.from({ length: options.tenants }, (_, k) => `soak-${k}`);
  const [data, adapters] = [`${directory}/data`, `${directory}/adapters`];
  await fillStore(data, tenants, guests);
  await Deno.mkdir(adapters);
  await Deno.writeFile(`${adapters}/factors.safetensors`, writeFactors(own));
  const files = Array.from({ length: FILES }, (_, k) => `core-${k}.safetensors`);
  for (const [k, file] of files.entries()) {
    await Deno.writeFile(`${adapters}/${file}`, coreFile(own, k));
  }
  return {
    data,
    adapters,
    tenants,
    files,
    guests: guests.map((set) => coreFile(set, 1).toBase64()),
  };
}

async function factorSets({ model, sets }: ShelfOptions): Promise<[FactorSet, ...FactorSet[]]> {
  const checkpoint = await openCheckpoint(model);
  const stack = stackOf(await checkpoint.digest(), checkpoint.config);
  checkpoint.close();
  const make = (seed: number) => randomFactors({ stack, rank: RANK, seed });
  return [make(1), ...Array.from({ length: sets }, (_, k) => make(k + 2))];
}

async function fillStore(
  data: string,
  tenants: readonly string[],
  sets: readonly FactorSet[],
): Promise<void> {
  const silent = { info: () => {}, warning: () => {} };
  await using store = await openStore({ type: "directory", path: data }, silent);
  for (const tenant of tenants) await store.tenants.ensure(tenant);
  for (const set of sets) await store.factors.add(set.digest, writeFactors(set));
}

function coreFile(factors: FactorSet, k: number): Uint8Array<ArrayBuffer> {
  const { layers, modules, rank } = factors;
  const values = gaussian(k, 7, layers * modules.length * rank ** 2);
  const core = coreFrom(factors, rank, Float32Array.from(values, (value) => SPREAD * value));
  return writeCore(core, "float16");
}
