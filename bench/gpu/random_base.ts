/**
 * Models of well-known shapes with random weights, made in seconds: every weight is cut from one tile of
 * noise, and what serves in blocks of integers is handed out as such, so that nothing is rounded. Their
 * texts mean nothing; their costs are those of real weights.
 */
import { PLAIN_FORM, plainScale } from "../../src/checkpoint/architectures/architecture.ts";
import { unscaled } from "../../src/checkpoint/rope_config.ts";
import type { Checkpoint, DecoderConfig, WeightSource } from "../../src/checkpoint/checkpoint.ts";
import { expectedWeights } from "../../src/checkpoint/expected_weights.ts";
import { gaussian } from "../../src/util/random.ts";

export interface RandomBase {
  readonly name: string;
  readonly config: DecoderConfig;
  /** Bits of the blocks that weights are handed out in; undefined = float32. */
  readonly bits: 4 | 8 | undefined;
}

type Shape = Pick<
  DecoderConfig,
  | "architecture"
  | "vocabSize"
  | "hiddenSize"
  | "intermediateSize"
  | "numLayers"
  | "numHeads"
  | "numKvHeads"
  | "headDim"
  | "tieEmbeddings"
>;

const SHAPES = {
  tiny: shape("llama", [512, 128, 256, 2], [4, 2, 32], true),
  "135M": shape("llama", [49152, 576, 1536, 30], [9, 3, 64], true),
  "1.5B": shape("qwen2", [151936, 1536, 8960, 28], [12, 2, 128], true),
  "7B": shape("qwen2", [152064, 3584, 18944, 28], [28, 4, 128], false),
} as const satisfies Readonly<Record<string, Shape>>;

export type ShapeName = keyof typeof SHAPES;

function shape(
  architecture: Shape["architecture"],
  [vocabSize, hiddenSize, intermediateSize, numLayers]: readonly [number, number, number, number],
  [numHeads, numKvHeads, headDim]: readonly [number, number, number],
  tieEmbeddings: boolean,
): Shape {
  const sizes = { vocabSize, hiddenSize, intermediateSize, numLayers, tieEmbeddings };
  return { architecture, ...sizes, numHeads, numKvHeads, headDim };
}

/** A base of a shape: its weights in blocks of so many bits, or in float32. */
export function randomBase(name: ShapeName, bits?: 4 | 8): RandomBase {
  return {
    name: `${name} ${bits === undefined ? "float" : `${bits} bit`}`,
    bits,
    config: {
      ...SHAPES[name],
      ...PLAIN_FORM,
      ...{ maxPositions: 32768, rmsNormEps: 1e-5, layers: [{ rope: 0, window: undefined }] },
      ropes: [unscaled(1e4, SHAPES[name].headDim)],
      attentionScale: plainScale(SHAPES[name].headDim),
      ...{ qkvBias: SHAPES[name].architecture === "qwen2", outputBias: false },
      ...{ bosTokenId: undefined, eosTokenIds: [0] },
    },
  };
}

/** Bytes of the weights that a step reads: all but the embedding's table. */
export function stepBytes({ config, bits }: RandomBase, floatBytes: number): number {
  const numbers = Array.from(expectedWeights(config))
    .filter(([name]) => config.tieEmbeddings || name !== EMBEDDING)
    .reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b), 0);
  // a scale of 4 bytes for 32 numbers
  return numbers * (bits === undefined ? floatBytes : bits / 8 + 4 / BLOCK);
}

/** Numbers of the matrices that each token is multiplied by. */
export function matrixNumbers({ config }: RandomBase): number {
  const matrices = [...expectedWeights(config)].filter(([, { length }]) => length === 2);
  return matrices.filter(([name]) => config.tieEmbeddings || name !== EMBEDDING)
    .reduce((sum, [, [rows = 0, columns = 0]]) => sum + rows * columns, 0);
}

const EMBEDDING = "model.embed_tokens.weight";
const BLOCK = 32;
const TILE = 2 ** 20;
const DEVIATION = 0.02;

/** It has no tokenizer: who asks for text is wrong here. */
export function openRandom({ name, config, bits }: RandomBase): Checkpoint {
  const noise = Float32Array.from(gaussian(1, 1, TILE), (x) => DEVIATION * x);
  const bytes = Uint8Array.from(noise, (x) => (x / DEVIATION + 4) * 32);
  return {
    ...{ path: name, id: name, config, weights: weightsOf(config, bits, { noise, bytes }) },
    get tokenizer(): never {
      throw new TypeError("Cannot tokenize: random weights have no tokenizer");
    },
    ...{ chatTemplate: undefined, sampling: {}, warnings: [] },
    digest: () => Promise.resolve("0".repeat(64)),
    close: () => {},
    [Symbol.dispose]: () => {},
  };
}

interface Tiles {
  readonly noise: Float32Array;
  readonly bytes: Uint8Array;
}

function weightsOf(
  config: DecoderConfig,
  bits: 4 | 8 | undefined,
  { noise, bytes }: Tiles,
): WeightSource {
  const shapes = expectedWeights(config);
  const shapeOf = (name: string) => {
    const shape = shapes.get(name);
    if (shape === undefined) throw new RangeError(`There is no weight ${name}`);
    return shape;
  };
  const isBlocks = (name: string) => bits !== undefined && shapeOf(name).length === 2;
  return {
    names: () => [...shapes.keys()],
    has: (name) => shapes.has(name),
    info: (name) => ({
      shape: shapeOf(name),
      type: !isBlocks(name) ? "F32" : bits === 4 ? "Q4_0" : "Q8_0",
    }),
    read(name, { rows, into } = {}) {
      const [all = 0, columns = 1] = shapeOf(name);
      const data = into ?? new Float32Array((rows?.count ?? all) * columns);
      if (shapeOf(name).length === 2) return repeat(data, noise);
      return data.fill(name.endsWith("bias") ? 0 : 1);
    },
    readRaw: () => {
      throw new TypeError("internal: random weights have no stored bytes");
    },
    blocks(name) {
      if (bits === undefined || !isBlocks(name)) return undefined;
      const [rows = 0, columns = 0] = shapeOf(name);
      const scale = bits === 4 ? DEVIATION / 4 : DEVIATION / 32;
      return {
        ...{ bits, size: BLOCK, offsets: false },
        read: () => ({
          q: repeat(new Uint8Array(rows * columns * bits / 8), bytes),
          scales: new Float32Array(rows * columns / BLOCK).fill(scale),
          offsets: undefined,
        }),
      };
    },
  };
}

/** Fills with a tile again and again. */
function repeat<T extends Float32Array | Uint8Array>(to: T, tile: T): T {
  for (let at = 0; at < to.length; at += tile.length) {
    to.set(tile.subarray(0, Math.min(tile.length, to.length - at)) as never, at);
  }
  return to;
}
