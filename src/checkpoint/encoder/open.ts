/**
 * Opens an encoder's directory as Hugging Face and sentence-transformers lay it out. It fetches
 * nothing; weights stay on disk until they are read.
 */
import { cacheDirectory } from "../../util/cache_directory.ts";
import { Once } from "../../util/memo.ts";
import type { Tokenizer, WeightSource } from "../checkpoint.ts";
import { cachedDigest, weightsDigest } from "../digest.ts";
import { exists } from "../fetch/cache.ts";
import { Fields } from "../fields.ts";
import { SafetensorsWeights } from "../formats/safetensors_weights.ts";
import { optionalJson, readJson } from "../json_file.ts";
import { safetensorsPaths } from "../open.ts";
import { JsonTokenizer, readTokenizerJson } from "../text/tokenizer.ts";
import { type EncoderConfig, encoderConfig, isEncoderConfig } from "./config.ts";
import { Frame } from "./frame.ts";
import { type DenseModule, readModules, type SentenceModules } from "./modules.ts";
import { EncoderWeights } from "./weights.ts";

/** A linear layer's numbers: weight [out, in], bias [out]. */
export interface DenseWeights {
  readonly weight: Float32Array;
  readonly bias: Float32Array | undefined;
}

export interface EncoderCheckpoint extends Disposable {
  readonly path: string;
  /** A short model id for people and `/v1/models`. */
  readonly id: string;
  readonly config: EncoderConfig;
  readonly weights: WeightSource;
  readonly tokenizer: Tokenizer;
  readonly frame: Frame;
  readonly modules: SentenceModules;
  /** Tokens of the longest text that is not cut, special ones included. */
  readonly maxTokens: number;
  dense(module: DenseModule): DenseWeights;
  /** SHA-256 (hex) over the canonical config and the encoder's tensors' bytes. */
  digest(): Promise<string>;
  close(): void;
}

/** Whether an encoder lies at a path. */
export async function isEncoder(path: string): Promise<boolean> {
  if (!(await Deno.stat(path)).isDirectory || !await exists(`${path}/config.json`)) return false;
  return isEncoderConfig(await readJson(`${path}/config.json`));
}

/** @throws {TypeError} where it is damaged, incomplete or of an unsupported kind */
export async function openEncoder(directory: string): Promise<EncoderCheckpoint> {
  const config = encoderConfig(await readJson(`${directory}/config.json`));
  const json = readTokenizerJson(await readJson(`${directory}/tokenizer.json`));
  const read = await readModules(directory);
  // a classifier reads its first token
  const modules = config.labels === undefined
    ? read
    : { ...read, pooling: ["cls"], after: [] } as const;
  const tokenizer = new JsonTokenizer(json);
  const frame = new Frame(json, await tellsTypes(directory) ? config.tokenTypes : 1);
  const paths = await safetensorsPaths(directory);
  const id = idOf(await Deno.realPath(directory));
  const maxTokens = Math.min(
    config.maxPositions,
    modules.maxTokens ?? await tokenizerLimit(directory),
  );
  // last: from here on files are open
  const stored = SafetensorsWeights.open(paths);
  try {
    const weights = new EncoderWeights(config, stored);
    const sources = [`${directory}/config.json`, ...paths];
    const digest = new Once(() =>
      cachedDigest(userCache(), sources, () => weightsDigest(config, weights))
    );
    const close = () => stored.close();
    return {
      ...{ path: directory, id, config, weights, tokenizer, frame, modules, maxTokens, close },
      dense: (module) => readDense(directory, module),
      digest: () => digest.get(),
      [Symbol.dispose]: close,
    };
  } catch (error) {
    stored.close();
    throw error;
  }
}

/** Whether a pair's second text is told by its type, as transformers' tokenizer of this name does. */
async function tellsTypes(directory: string): Promise<boolean> {
  const config = await optionalJson(`${directory}/tokenizer_config.json`) ?? {};
  const fields = new Fields("tokenizer_config.json", config);
  const names = fields.optionalTexts("model_input_names");
  if (names !== undefined) return names.includes("token_type_ids");
  return fields.optionalText("tokenizer_class") !== "TokenizersBackend";
}

/** transformers writes an enormous number where there is no limit. */
async function tokenizerLimit(directory: string): Promise<number> {
  const config = await optionalJson(`${directory}/tokenizer_config.json`) ?? {};
  return new Fields("tokenizer_config.json", config).optionalNumber("model_max_length") ?? Infinity;
}

/** @throws {TypeError} where a weight is missing or misshapen */
function readDense(directory: string, { folder, inputs, outputs, bias }: DenseModule) {
  using file = SafetensorsWeights.open([`${directory}/${folder}/model.safetensors`]);
  const read = (name: string, size: number) => {
    const data = file.read(name);
    if (data.length === size) return data;
    throw new TypeError(
      `Cannot load weight '${folder}: ${name}': it has ${data.length} numbers, ` +
        `${folder}/config.json wants ${size}`,
    );
  };
  return {
    weight: read("linear.weight", inputs * outputs),
    bias: bias ? read("linear.bias", outputs) : undefined,
  };
}

/** The folder's name; a fetched package's has its version behind it, the hub's its commit. */
function idOf(path: string): string {
  const [, owned] = /models--[^/]+--([^/]+)\/snapshots\//.exec(path) ?? [];
  const name = owned ?? path.replace(/[/\\]+$/, "").split(/[/\\]/).at(-1) ?? path;
  return name.replace(/-\d+(?:\.\d+)+$/, "") || name;
}

/** Undefined where the environment names none: nothing is remembered then. */
function userCache(): string | undefined {
  try {
    return cacheDirectory();
  } catch {
    return undefined;
  }
}
