/**
 * What PyTorch differentiated (`tests/fixtures/train/gradients.py`), and models to hold against it:
 * the rows, the trainables and the gradients of a fixture.
 */
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { inputsOf, outputsOf } from "../../src/models/widths.ts";
import {
  type LinearHook,
  type ModuleName,
  MODULES,
  SITE_OF,
  type SiteName,
  SITES,
} from "../../src/models/hook.ts";
import type { Example, MicroBatch, TrainableState } from "../../src/train/gradients/model.ts";
import { Expected } from "../models/expected.ts";

const FIXTURES = new URL("../fixtures/train/", import.meta.url);

/** Of the fixture's rows: the trainable of each. */
export const OWNERS = [0, 1, 0] as const;

/** One model's part of a fixture. */
export class Oracle {
  readonly #expected: Expected;
  readonly #prefix: string;

  constructor(file: "smollm2" | "tiny", model?: string) {
    this.#expected = new Expected(new URL(`${file}.safetensors`, FIXTURES));
    this.#prefix = model === undefined ? "" : `${model}.`;
  }

  floats(name: string): Float32Array {
    return this.#expected.floats(this.#prefix + name);
  }

  get examples(): Example[] {
    const ids = this.#expected.integers(`${this.#prefix}ids`);
    const weights = this.floats("weights");
    let start = 0;
    return this.#expected.integers(`${this.#prefix}lengths`).map((length, i) => {
      const end = start + length;
      const tokens = Int32Array.from(ids.slice(start, end));
      const example = { tokens, weights: weights.slice(start, end), line: i + 1 };
      start = end;
      return example;
    });
  }

  batch(trainables: readonly TrainableState[]): MicroBatch {
    const rows = this.examples.map((example, i) => ({ example, trainable: OWNERS[i] }));
    return { rows, trainables };
  }
}

/** `wave` of the script: scale · sin(0.7 i² + phase). */
function wave(count: number, phase: number, scale: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => scale * Math.sin(0.7 * i * i + phase));
}

/** Factors and cores of a tiny model's trainable, as the script makes them. */
export interface TinyTrainable {
  readonly hook: LinearHook;
  readonly cores: Float32Array;
}

const TINY_RANK = 4;
const TINY_SCALE = 0.3;

export function tinyTrainable({ config }: Checkpoint, phase: number): TinyTrainable {
  const made = new Map<string, Float32Array>();
  const add = (name: string, count: number) => {
    made.set(name, wave(count, phase + made.size, TINY_SCALE));
  };
  add("cores", config.numLayers * MODULES.length * TINY_RANK ** 2);
  for (const site of SITES) add(`A.${site}`, inputsOf(config, site) * TINY_RANK);
  for (const module of MODULES) add(`B.${module}`, TINY_RANK * outputsOf(config, module));
  const get = (name: string) => made.get(name) ?? new Float32Array();
  const hook: LinearHook = {
    digest: `wave ${phase}`,
    rank: TINY_RANK,
    modules: MODULES,
    a: (site: SiteName) => get(`A.${site}`),
    b: (module: ModuleName) => get(`B.${module}`),
  };
  return { hook, cores: get("cores") };
}

/** The sites that a hook's modules read. */
export function sitesOf({ modules }: Pick<LinearHook, "modules">): SiteName[] {
  return SITES.filter((site) => modules.some((module) => SITE_OF[module] === site));
}

/** Euclidean length of the difference over that of what is expected. */
export function relativeError(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Infinity;
  let [difference, length] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    difference += (found[i] - expected[i]) ** 2;
    length += expected[i] ** 2;
  }
  return Math.sqrt(difference / length);
}

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [dot, left, right] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    left += a[i] ** 2;
    right += b[i] ** 2;
  }
  return dot / Math.sqrt(left * right);
}

/** Every `stride`th number, as the script thins gradients. */
export function thinned(values: Float32Array, stride: number): Float32Array {
  return values.filter((_, i) => i % stride === 0);
}

/** Euclidean length. */
export function norm(values: ArrayLike<number>): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i] ** 2;
  return Math.sqrt(squares);
}
