/**
 * A small stack of two layers, with factor sets, cores and weights over it, for the tests of
 * adapters. Everything is seeded; nothing has a meaning.
 */
import { Core, coreFrom } from "../../adapters/lotr/core.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { dense, multiply } from "../../adapters/lotr/linalg.ts";
import { rowsWithin } from "../../src/checkpoint/rows.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { gaussian } from "../../src/util/random.ts";
import { type Stack, weightName } from "../../adapters/lotr/stack.ts";
import type { ReadOptions, WeightInfo, WeightSource } from "../../src/checkpoint/checkpoint.ts";
import { type ModuleName, MODULES, SITE_OF } from "../../src/models/hook.ts";
import type {
  GradientSource,
  LinearMatrix,
  WeightGradientRequest,
} from "../../src/train/gradients/gradient_source.ts";
import type { Example } from "../../src/train/gradients/model.ts";

/** A digest that names nothing. */
export function digestOf(letter: string): string {
  return letter.repeat(64);
}

export const STACK: Stack = {
  base: digestOf("a"),
  layers: 2,
  inputs: { "attn_in": 16, "attn_out": 16, "mlp_in": 16, "mlp_mid": 24 },
  outputs: {
    "q_proj": 16,
    "k_proj": 8,
    "v_proj": 8,
    "o_proj": 16,
    "gate_proj": 24,
    "up_proj": 24,
    "down_proj": 16,
  },
};

export function smallFactors(
  options: { rank?: number; seed?: number; modules?: readonly ModuleName[] } = {},
): FactorSet {
  return randomFactors({ stack: STACK, rank: 4, ...options });
}

/** A core of the factor set with Gaussian elements. */
export function smallCore(factors: FactorSet, seed: number, rank: number = factors.rank): Core {
  const size = factors.layers * factors.modules.length * rank ** 2;
  return coreFrom(factors, rank, Float32Array.from(gaussian(seed, 99, size)));
}

/** The same content with some of it replaced. */
export function coreLike(
  core: Core,
  changes: Partial<ConstructorParameters<typeof Core>[0]>,
): Core {
  const { base, factors, rank, alpha, modules, cores } = core;
  return new Core({ base, factors, rank, alpha, modules, cores, ...changes });
}

/** Weights of every linear of the stack, as one decaying sum of rank-one terms plus noise. */
export class SmallWeights implements WeightSource {
  readonly #shapes = new Map<string, readonly [number, number]>();

  constructor() {
    for (let layer = 0; layer < STACK.layers; layer++) {
      for (const module of MODULES) {
        const shape = [STACK.outputs[module], STACK.inputs[SITE_OF[module]]] as const;
        this.#shapes.set(weightName(layer, module), shape);
      }
    }
  }

  names(): readonly string[] {
    return [...this.#shapes.keys()];
  }

  has(name: string): boolean {
    return this.#shapes.has(name);
  }

  info(name: string): WeightInfo {
    const shape = this.#shapes.get(name);
    if (shape === undefined) throw new RangeError(`Cannot find weight '${name}'`);
    return { shape, type: "F32" };
  }

  read(name: string, options: ReadOptions = {}): Float32Array {
    const [rows = 0, columns = 0] = this.info(name).shape;
    const stream = this.names().indexOf(name);
    const noise = gaussian(5, stream, rows * columns);
    const all = Float32Array.from(noise, (value, i) => value / (1 + i % columns));
    return partOf(name, this.info(name), all, options);
  }

  readRaw(name: string): Uint8Array {
    return new Uint8Array(this.read(name).buffer);
  }

  blocks(): undefined {
    return undefined;
  }
}

/** What `options` ask for, of a tensor that was read whole. */
function partOf(
  name: string,
  info: Pick<WeightInfo, "shape">,
  values: Float32Array,
  { rows, into }: ReadOptions,
): Float32Array {
  const { first, count } = rowsWithin(name, info, rows);
  const width = values.length / (info.shape[0] ?? 1);
  const part = values.subarray(first * width, (first + count) * width);
  if (into === undefined) return part;
  into.set(part);
  return into;
}

export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}

/** Calibration examples that nothing reads but their number of tokens. */
export const EXAMPLES: readonly Example[] = [3, 4].map((length) => ({
  tokens: new Int32Array(length),
  weights: new Float32Array(length).fill(1),
  line: 1,
}));

/** For each linear of the set a matrix A · M · B of the stack's shape, M Gaussian and full. */
export function gradientsWithin(factors: FactorSet, seed = 0): LinearMatrix[] {
  const { rank, layers, modules } = factors;
  return Array.from({ length: layers }, (_, layer) =>
    modules.map((module, place) => {
      const middle = gaussian(seed, 1000 + place * layers + layer, rank * rank);
      const a = dense(factors.inputSize(SITE_OF[module]), rank, factors.a(SITE_OF[module]));
      const b = dense(rank, factors.outputSize(module), factors.b(module));
      const { data } = multiply(multiply(a, dense(rank, rank, middle)), b);
      return { layer, module, values: Float32Array.from(data) };
    })).flat();
}

/** Hands out gradients made before and remembers what it was asked for. */
export class Gradients implements GradientSource {
  readonly requests: WeightGradientRequest[] = [];
  released = 0;

  constructor(readonly gradients: readonly LinearMatrix[]) {}

  async *weightGradients(request: WeightGradientRequest): AsyncGenerator<LinearMatrix> {
    this.requests.push(request);
    const tokens = request.examples.reduce((sum, { tokens }) => sum + tokens.length, 0);
    await Promise.resolve();
    request.onProgress?.(tokens, tokens);
    const asked = this.gradients.filter(({ module }) => request.modules.includes(module));
    for (const gradient of asked) {
      yield { ...gradient, values: gradient.values.slice() };
    }
  }

  release(): void {
    this.released++;
  }
}
