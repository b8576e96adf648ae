/**
 * A GGUF model's tensors under Hugging Face's names and layouts: llama.cpp's names are mapped back,
 * and the q and k rows that its Llama conversion interleaves are put back in order.
 */

import type { StoredBlocks } from "../../util/blocks.ts";
import type {
  DecoderConfig,
  NormPlace,
  ReadOptions,
  Rows,
  WeightInfo,
  WeightSource,
} from "../checkpoint.ts";
import { rowsWithin } from "../rows.ts";
import { dequantise } from "./dequantise.ts";
import { storedBlocks } from "./ggml_blocks.ts";
import type { GgufTensor } from "./gguf.ts";
import { ROPE_TENSORS } from "./gguf_config.ts";
import type { GgufParts, PlacedTensor } from "./gguf_parts.ts";

/** Names outside the layers. */
const TOP_NAMES: ReadonlyMap<string, string> = new Map([
  ["token_embd", "model.embed_tokens"],
  ["output_norm", "model.norm"],
  ["output", "lm_head"],
]);

/** Names within a layer. */
const LAYER_NAMES: ReadonlyMap<string, string> = new Map([
  ["attn_qkv", "self_attn.qkv_proj"],
  ["attn_q", "self_attn.q_proj"],
  ["attn_k", "self_attn.k_proj"],
  ["attn_v", "self_attn.v_proj"],
  ["attn_output", "self_attn.o_proj"],
  ["attn_q_norm", "self_attn.q_norm"],
  ["attn_k_norm", "self_attn.k_norm"],
  ["ffn_gate", "mlp.gate_proj"],
  ["ffn_up", "mlp.up_proj"],
  ["ffn_down", "mlp.down_proj"],
]);

/** Norms within a layer, by where they are. */
const NORM_NAMES: ReadonlyMap<string, NormPlace> = new Map([
  ["attn_norm", "beforeAttention"],
  ["post_attention_norm", "afterAttention"],
  ["ffn_norm", "beforeMlp"],
  ["post_ffw_norm", "afterMlp"],
]);

/** Tensors that the config has taken up already. */
const CONFIG_TENSORS: ReadonlySet<string> = new Set(Object.values(ROPE_TENSORS));

/** How the rows of q and k lie: `interleaved` (llama.cpp's Llama) or as Hugging Face has them. */
export type RowOrder = "interleaved" | "plain";

/** Hugging Face's name of a GGUF tensor; undefined where it is none of a decoder's. */
export function huggingFaceName(
  name: string,
  norms: DecoderConfig["norms"],
): string | undefined {
  const layered = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name);
  if (layered !== null) {
    const [, layer = "", part = "", kind = ""] = layered;
    const place = NORM_NAMES.get(part);
    const mapped = place === undefined ? LAYER_NAMES.get(part) : norms[place];
    return mapped === undefined ? undefined : `model.layers.${layer}.${mapped}.${kind}`;
  }
  const top = /^(\w+)\.(weight|bias)$/.exec(name);
  const mapped = TOP_NAMES.get(top?.[1] ?? "");
  return mapped === undefined ? undefined : `${mapped}.${top?.[2]}`;
}

/** The weights of an open GGUF model. */
export class GgufWeights implements WeightSource {
  readonly #path: string;
  readonly #tensors = new Map<string, PlacedTensor>();
  readonly #config: Pick<DecoderConfig, "headDim" | "norms">;
  readonly #rowOrder: RowOrder;

  /** @throws {TypeError} for a tensor that no decoder here has */
  constructor(
    { paths: [path], header }: Pick<GgufParts, "paths" | "header">,
    config: Pick<DecoderConfig, "headDim" | "norms">,
    rowOrder: RowOrder,
  ) {
    this.#path = path;
    this.#config = config;
    this.#rowOrder = rowOrder;
    for (const tensor of header.tensors.values()) {
      if (CONFIG_TENSORS.has(tensor.name)) continue;
      const name = huggingFaceName(tensor.name, config.norms) ?? tensor.name;
      // llama.cpp's name of up alone is that of gate and up in one tensor, too
      const both = !header.tensors.has(tensor.name.replace("ffn_up", "ffn_gate"));
      this.#tensors.set(both ? name.replace("mlp.up_proj", "mlp.gate_up_proj") : name, tensor);
    }
  }

  names(): readonly string[] {
    return [...this.#tensors.keys()];
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  info(name: string): WeightInfo {
    const { shape, type } = this.#tensor(name);
    return { shape, type };
  }

  read(name: string, { rows, into }: ReadOptions = {}): Float32Array {
    return dequantise(this.#tensor(name).type, this.readRaw(name, rows), into);
  }

  readRaw(name: string, rows?: Rows): Uint8Array {
    const tensor = this.#tensor(name);
    const { first, count } = rowsWithin(name, tensor, rows);
    const rowBytes = tensor.bytes / (tensor.shape[0] ?? 1);
    const permuted = this.#rowOrder === "interleaved" &&
      /\.self_attn\.[qk]_proj\.(weight|bias)$/.test(name);
    const { file } = tensor;
    if (!permuted) return file.read(tensor.offset + first * rowBytes, count * rowBytes);
    const bytes = file.read(tensor.offset, tensor.bytes);
    return gatherRows(bytes, tensor, this.#config.headDim)
      .subarray(first * rowBytes, (first + count) * rowBytes);
  }

  blocks(name: string): StoredBlocks | undefined {
    return storedBlocks(this.#tensor(name).type, () => this.readRaw(name));
  }

  #tensor(name: string): PlacedTensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) {
      throw new RangeError(
        `Cannot read weight '${name}': ${this.#path} has none of this name`,
      );
    }
    return tensor;
  }
}

/**
 * Row 2i + p of each head becomes row p·headDim/2 + i: the rotation's pairs (2i, 2i + 1) become
 * (i, i + headDim/2). Whole rows move, so quantised blocks stay whole.
 */
function gatherRows(bytes: Uint8Array, tensor: GgufTensor, headDim: number): Uint8Array {
  const rows = tensor.shape[0] ?? 0;
  const rowBytes = bytes.length / rows;
  const half = headDim / 2;
  if (rows % headDim !== 0) {
    throw new RangeError(
      `Cannot order the rows of '${tensor.name}': ${rows} are no heads of ${headDim}`,
    );
  }
  const ordered = new Uint8Array(bytes.length);
  for (let row = 0; row < rows; row++) {
    const within = row % headDim;
    const source = row - within + 2 * (within % half) + Math.floor(within / half);
    ordered.set(bytes.subarray(source * rowBytes, (source + 1) * rowBytes), row * rowBytes);
  }
  return ordered;
}
