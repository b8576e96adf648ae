/**
 * An encoder's weights under one set of names, whatever its class calls them: linears as a decoder's
 * (`model.layers.0.self_attn.q_proj.weight`), norms and tables by what they are. Names and shapes are
 * checked; no values are read.
 */
import type { ReadOptions, Rows, WeightInfo, WeightSource } from "../checkpoint.ts";
import type { EncoderArchitecture, EncoderConfig } from "./config.ts";

/** What encoders of one family call their parts, N standing for the layer. */
interface FamilyNames {
  /** What stands before every name where a head is on top. */
  readonly prefix: string;
  readonly attention: readonly [q: string, k: string, v: string, o: string, norm: string];
  /** The classifier's dense layer and its output. */
  readonly head: readonly [dense: string, out: string];
}

const BERT: FamilyNames = {
  prefix: "bert.",
  attention: [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
  ],
  head: ["bert.pooler.dense", "classifier"],
};
const ROBERTA: FamilyNames = {
  ...BERT,
  prefix: "roberta.",
  head: ["classifier.dense", "classifier.out_proj"],
};
const FAMILIES: Readonly<Record<EncoderArchitecture, FamilyNames>> = {
  bert: BERT,
  roberta: ROBERTA,
  "xlm-roberta": ROBERTA,
  camembert: ROBERTA,
  mpnet: {
    prefix: "mpnet.",
    attention: [
      "attention.attn.q",
      "attention.attn.k",
      "attention.attn.v",
      "attention.attn.o",
      "attention.LayerNorm",
    ],
    head: ["classifier.dense", "classifier.out_proj"],
  },
};

/** A weight: what the class calls it, and its shape. */
interface Expected {
  readonly stored: string;
  readonly shape: readonly number[];
}

/** Every weight of an encoder by our name, in the model's order. */
export function expectedEncoderWeights(config: EncoderConfig): ReadonlyMap<string, Expected> {
  const { hiddenSize, vocabSize, positionRows, tokenTypes, numHeads, relativeBuckets } = config;
  const { prefix, head: [dense, out] } = FAMILIES[config.architecture];
  const all = new Map<string, Expected>();
  const put = (name: string, stored: string, shape: readonly number[]) =>
    all.set(name, { stored, shape });
  const both = (name: string, stored: string, shape: readonly number[]) => {
    put(`${name}.weight`, `${stored}.weight`, shape);
    put(`${name}.bias`, `${stored}.bias`, shape.slice(0, 1));
  };
  const tables = `${prefix}embeddings.`;
  put("model.embed_tokens.weight", `${tables}word_embeddings.weight`, [vocabSize, hiddenSize]);
  const positions = [positionRows, hiddenSize];
  put("model.embed_positions.weight", `${tables}position_embeddings.weight`, positions);
  if (tokenTypes > 0) {
    const types = [tokenTypes, hiddenSize];
    put("model.embed_types.weight", `${tables}token_type_embeddings.weight`, types);
  }
  both("model.embed_norm", `${tables}LayerNorm`, [hiddenSize]);
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const [name, stored, shape] of layerWeights(config)) {
      both(`model.layers.${layer}.${name}`, `${prefix}encoder.layer.${layer}.${stored}`, shape);
    }
  }
  if (relativeBuckets !== undefined) {
    const stored = `${prefix}encoder.relative_attention_bias.weight`;
    put("model.relative_bias.weight", stored, [relativeBuckets, numHeads]);
  }
  if (config.labels !== undefined) {
    both("head.dense", dense, [hiddenSize, hiddenSize]);
    both("head.out", out, [config.labels, hiddenSize]);
  }
  return all;
}

function layerWeights(
  { architecture, hiddenSize: d, intermediateSize }: EncoderConfig,
): readonly (readonly [string, string, readonly number[]])[] {
  const [q, k, v, o, norm] = FAMILIES[architecture].attention;
  return [
    ["self_attn.q_proj", q, [d, d]],
    ["self_attn.k_proj", k, [d, d]],
    ["self_attn.v_proj", v, [d, d]],
    ["self_attn.o_proj", o, [d, d]],
    ["attention_norm", norm, [d]],
    ["mlp.up_proj", "intermediate.dense", [intermediateSize, d]],
    ["mlp.down_proj", "output.dense", [d, intermediateSize]],
    ["output_norm", "output.LayerNorm", [d]],
  ];
}

/** Weights of a checkpoint under our names. */
export class EncoderWeights implements WeightSource {
  readonly #stored: WeightSource;
  /** What the file calls each. */
  readonly #names: ReadonlyMap<string, string>;

  /** @throws {TypeError} naming the first weight that is missing or misshapen */
  constructor(config: EncoderConfig, stored: WeightSource) {
    if (config.numLayers > stored.names().length) {
      throw new TypeError(
        `Cannot load the model: the config says ${config.numLayers} layers, ` +
          `there are ${stored.names().length} weights`,
      );
    }
    const { prefix } = FAMILIES[config.architecture];
    this.#stored = stored;
    this.#names = new Map(
      Array.from(expectedEncoderWeights(config), ([name, { stored: wanted, shape }]) => [
        name,
        found(stored, wanted, prefix, shape),
      ]),
    );
  }

  names(): readonly string[] {
    return [...this.#names.keys()];
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  info(name: string): WeightInfo {
    return this.#stored.info(this.#of(name));
  }

  read(name: string, options?: ReadOptions): Float32Array {
    return this.#stored.read(this.#of(name), options);
  }

  readRaw(name: string, rows?: Rows): Uint8Array {
    return this.#stored.readRaw(this.#of(name), rows);
  }

  blocks(): undefined {
    return undefined;
  }

  #of(name: string): string {
    const stored = this.#names.get(name);
    if (stored === undefined) throw new RangeError(`internal: an encoder has no weight '${name}'`);
    return stored;
  }
}

/** The name of a weight in the file: a model without a head has none of the prefix. */
function found(
  weights: WeightSource,
  wanted: string,
  prefix: string,
  shape: readonly number[],
): string {
  const bare = wanted.startsWith(prefix) ? wanted.slice(prefix.length) : wanted;
  const name = [wanted, bare].find((one) => weights.has(one));
  if (name === undefined) {
    throw new TypeError(`Cannot load the model: it has no weight '${wanted}'`);
  }
  const actual = weights.info(name).shape;
  if (actual.length === shape.length && actual.every((n, i) => n === shape[i])) return name;
  throw new TypeError(
    `Cannot load weight '${name}': its shape is [${actual}], the config wants [${shape}]`,
  );
}
