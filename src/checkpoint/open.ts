/**
 * Opens a checkpoint on disk, whatever its format: a GGUF file, a directory that contains one, or a
 * directory of safetensors as Hugging Face lays it out. It fetches nothing.
 */

import { cacheDirectory, exists } from "./cache.ts";
import { JinjaChatTemplate, type SpecialTokens } from "./chat_template.ts";
import type {
  ChatTemplate,
  Checkpoint,
  DecoderConfig,
  Tokenizer,
  WeightSource,
} from "./checkpoint.ts";
import { decoderConfig } from "./config.ts";
import { dequantise } from "./dequantise.ts";
import { cachedDigest, modelDigest } from "./digest.ts";
import { checkWeights } from "./expected_weights.ts";
import { Fields } from "./fields.ts";
import { RandomAccessFile } from "./file.ts";
import { type GgufHeader, readGgufHeader } from "./gguf.ts";
import { ggufDecoderConfig } from "./gguf_config.ts";
import { ggufSpecialToken, ggufTokenizerJson } from "./gguf_tokenizer.ts";
import { GgufWeights } from "./gguf_weights.ts";
import { SafetensorsWeights, shardNames } from "./safetensors_weights.ts";
import { JsonTokenizer, readTokenizerJson } from "./tokenizer.ts";

export interface OpenOptions {
  /** The cache directory, where digests are remembered; the user's by default. */
  readonly cache?: string;
}

/**
 * Opens the checkpoint at `path`: a `.gguf` file, a directory of safetensors, or a directory with
 * exactly one `.gguf`. Headers, config and the shapes of all weights are checked; the weights stay
 * on disk until they are read.
 *
 * @throws {TypeError} where the checkpoint is damaged, incomplete or of an unsupported kind
 * @throws {Deno.errors.NotFound} where there is nothing at `path`
 */
export async function openCheckpoint(
  path: string,
  options: OpenOptions = {},
): Promise<Checkpoint> {
  const parts = await openParts(path);
  try {
    checkWeights(parts.config, parts.weights);
    checkVocabulary(parts.config, parts.tokenizer);
    return new OpenCheckpoint(parts, options.cache ?? userCache());
  } catch (error) {
    parts.close();
    throw error;
  }
}

async function openParts(path: string): Promise<Parts> {
  const { isDirectory } = await Deno.stat(path);
  if (!isDirectory) return openGguf(path);
  const names = Array.from(Deno.readDirSync(path), (entry) => entry.name);
  if (names.some((name) => name.endsWith(".safetensors"))) return await openDirectory(path);
  const ggufs = names.filter((name) => name.endsWith(".gguf"));
  const [only] = ggufs;
  if (only !== undefined && ggufs.length === 1) return openGguf(`${path}/${only}`);
  throw new TypeError(
    `Cannot open ${path}: it holds ${ggufs.length} .gguf files and no .safetensors; ` +
      `pass one .gguf file, or a directory with a model`,
  );
}

/** Special tokens by the names that templates use, and GGUF's names of them. */
const TEMPLATE_TOKENS = [
  ["bos_token", "bos"],
  ["eos_token", "eos"],
  ["unk_token", "unknown"],
  ["pad_token", "padding"],
] as const;

/** @throws {TypeError} where the tokenizer has ids that the model has no embedding for */
function checkVocabulary(config: DecoderConfig, tokenizer: Tokenizer): void {
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new TypeError(
      `Cannot load the model: its tokenizer has ${tokenizer.vocabSize} tokens, ` +
        `its embedding ${config.vocabSize}`,
    );
  }
}

/** Undefined where the environment names none: nothing is remembered then. */
function userCache(): string | undefined {
  try {
    return cacheDirectory();
  } catch {
    return undefined;
  }
}

/** What both formats come to. */
interface Parts {
  readonly id: string;
  readonly paths: readonly string[];
  readonly config: DecoderConfig;
  readonly weights: WeightSource;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | undefined;
  readonly close: () => void;
}

class OpenCheckpoint implements Checkpoint {
  readonly #parts: Parts;
  readonly #cache: string | undefined;
  #digest: Promise<string> | undefined;

  constructor(parts: Parts, cache: string | undefined) {
    this.#parts = parts;
    this.#cache = cache;
  }

  get id(): string {
    return this.#parts.id;
  }

  get config(): DecoderConfig {
    return this.#parts.config;
  }

  get weights(): WeightSource {
    return this.#parts.weights;
  }

  get tokenizer(): Tokenizer {
    return this.#parts.tokenizer;
  }

  get chatTemplate(): ChatTemplate | undefined {
    return this.#parts.chatTemplate;
  }

  digest(): Promise<string> {
    const { paths, config, weights } = this.#parts;
    this.#digest ??= cachedDigest(this.#cache, paths, () => modelDigest(config, weights));
    return this.#digest;
  }

  close(): void {
    this.#parts.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openGguf(path: string): Parts {
  const file = RandomAccessFile.open(path);
  try {
    const header = readGgufHeader(file);
    const config = ggufDecoderConfig(header, readRopeFactors(file, header));
    const rowOrder = config.architecture === "llama" ? "interleaved" : "plain";
    const weights = new GgufWeights(file, header, config, rowOrder);
    return {
      id: ggufId(path),
      paths: [path],
      config,
      weights,
      tokenizer: new JsonTokenizer(ggufTokenizerJson(header)),
      chatTemplate: ggufChatTemplate(header),
      close: () => file.close(),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

function readRopeFactors(file: RandomAccessFile, header: GgufHeader): number[] | undefined {
  const tensor = header.tensors.get("rope_freqs.weight");
  if (tensor === undefined) return undefined;
  return [...dequantise(tensor.type, file.read(tensor.offset, tensor.bytes))];
}

/** The file's name without its ending and without the name of its quantisation. */
function ggufId(path: string): string {
  const name = lastPart(path).replace(/\.gguf$/i, "");
  return name.replace(/[.-](I?Q\d\w*|B?F16|F32)$/i, "") || name;
}

function lastPart(path: string): string {
  return path.replace(/[/\\]+$/, "").split(/[/\\]/).at(-1) ?? path;
}

function ggufChatTemplate(header: GgufHeader): ChatTemplate | undefined {
  const source = header.metadata.get("tokenizer.chat_template");
  if (typeof source !== "string") return undefined;
  const tokens = Object.fromEntries(
    TEMPLATE_TOKENS.map(([name, token]) => [name, ggufSpecialToken(header, token) ?? ""]),
  );
  return new JinjaChatTemplate(source, tokens);
}

async function openDirectory(directory: string): Promise<Parts> {
  const generation = await optionalJson(`${directory}/generation_config.json`);
  const config = decoderConfig(await readJson(`${directory}/config.json`), generation);
  const tokenizerJson = await readJson(`${directory}/tokenizer.json`);
  const tokenizer = new JsonTokenizer(readTokenizerJson(tokenizerJson));
  const chatTemplate = await directoryChatTemplate(directory);
  const paths = await safetensorsPaths(directory);
  const weights = SafetensorsWeights.open(paths);
  return {
    id: lastPart(await Deno.realPath(directory)),
    paths: [`${directory}/config.json`, ...paths],
    config,
    weights,
    tokenizer,
    chatTemplate,
    close: () => weights.close(),
  };
}

async function safetensorsPaths(directory: string): Promise<readonly string[]> {
  const index = await optionalJson(`${directory}/model.safetensors.index.json`);
  const names = index === undefined ? ["model.safetensors"] : shardNames(index);
  return names.map((name) => `${directory}/${name}`);
}

async function directoryChatTemplate(directory: string): Promise<ChatTemplate | undefined> {
  const config = (await optionalJson(`${directory}/tokenizer_config.json`)) ?? {};
  const fields = new Fields("tokenizer_config.json", config);
  const file = `${directory}/chat_template.jinja`;
  const source = await exists(file)
    ? await Deno.readTextFile(file)
    : defaultTemplate(Reflect.get(config, "chat_template"));
  return source === undefined ? undefined : new JinjaChatTemplate(source, specialTokens(fields));
}

/** One template, or a list of named ones of which the one called "default" counts. */
function defaultTemplate(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const chosen: unknown = value.find((one) => one?.name === "default")?.template;
  return typeof chosen === "string" ? chosen : undefined;
}

function specialTokens(config: Fields): SpecialTokens {
  const tokens = config.names().filter((name) => name.endsWith("_token")).flatMap((name) => {
    const value = config.optionalTokenText(name);
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(tokens);
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new TypeError(`Cannot read ${path}: it is not JSON`, { cause });
  }
}

async function optionalJson(path: string): Promise<object | undefined> {
  if (!await exists(path)) return undefined;
  const value = await readJson(path);
  if (typeof value === "object" && value !== null) return value;
  throw new TypeError(`Cannot read ${path}: it is not a JSON object`);
}
