/**
 * Opens a checkpoint on disk, whatever its format: a GGUF file, a directory that contains one, or a
 * directory of safetensors as Hugging Face lays it out. It fetches nothing.
 */

import { cacheDirectory } from "../util/cache_directory.ts";
import {
  chatTemplate,
  givenTemplate,
  pairedTemplate,
  type SpecialTokens,
  withDefaults,
} from "./text/chat_template.ts";
import type {
  ChatTemplate,
  Checkpoint,
  DecoderConfig,
  SamplingDefaults,
  TemplateChoice,
  Tokenizer,
  WeightSource,
} from "./checkpoint.ts";
import { decoderConfig, namedArchitecture } from "./config.ts";
import { FusedWeights } from "./formats/fused_weights.ts";
import { dequantise } from "./formats/dequantise.ts";
import { cachedDigest, modelDigest } from "./digest.ts";
import { directoryEndTokens, type EndTokens, ggufEndTokens } from "./text/end_tokens.ts";
import { checkWeights } from "./expected_weights.ts";
import type { GgufHeader } from "./formats/gguf.ts";
import { architectureOf, ggufDecoderConfig, refuseUnknown } from "./formats/gguf_config.ts";
import { type GgufParts, openGgufParts, partPaths } from "./formats/gguf_parts.ts";
import {
  ggufSpecialToken,
  ggufTokenizerJson,
  ggufTokenizerWarnings,
} from "./formats/gguf_tokenizer.ts";
import { GgufWeights } from "./formats/gguf_weights.ts";
import { Fields } from "./fields.ts";
import { optionalJson, readJson } from "./json_file.ts";
import { quantisationOf } from "./quantisation.ts";
import { configSampling, ggufSampling } from "./sampling_defaults.ts";
import { Once } from "../util/memo.ts";
import { QuantisedWeights } from "./formats/quantised_weights.ts";
import { SafetensorsWeights, shardNames } from "./formats/safetensors_weights.ts";
import { readSidecars } from "./text/sidecars.ts";
import { JsonTokenizer, readTokenizerJson } from "./text/tokenizer.ts";

export interface OpenOptions extends TemplateChoice {
  /** The cache directory, where digests are remembered; the user's by default. */
  readonly cache?: string;
}

/**
 * Opens the checkpoint at `path`: a `.gguf` file, a directory of safetensors, or a directory with
 * exactly one `.gguf`. Headers, config and the shapes of all weights are checked; the weights stay
 * on disk until they are read.
 *
 * @throws {TypeError} where the checkpoint is damaged, incomplete or of an unsupported kind, or the
 *   given chat template is no Jinja
 * @throws {Deno.errors.NotFound} where there is nothing at `path`
 *
 * @example
 * ```ts
 * import { openCheckpoint } from "@lembas/lembas";
 *
 * const checkpoint = await openCheckpoint("tests/fixtures/models/llama");
 * console.log(checkpoint.config.numLayers, checkpoint.tokenizer.encode("The road goes ever on"));
 * checkpoint.close();
 * ```
 */
export async function openCheckpoint(
  path: string,
  options: OpenOptions = {},
): Promise<Checkpoint> {
  const parts = await openParts(path, options.chatTemplate);
  try {
    checkWeights(parts.config, parts.weights);
    return new OpenCheckpoint(path, parts, options);
  } catch (error) {
    parts.close();
    throw error;
  }
}

async function openParts(path: string, template: string | undefined): Promise<Parts> {
  const { isDirectory } = await Deno.stat(path);
  if (!isDirectory) return openGguf(path, template);
  const names = Array.from(Deno.readDirSync(path), (entry) => entry.name);
  if (names.some((name) => name.endsWith(".safetensors"))) {
    return await openDirectory(path, template);
  }
  const ggufs = names.filter((name) => name.endsWith(".gguf"));
  const [first] = ggufs.sort();
  if (first !== undefined && partPaths(first).join() === ggufs.join()) {
    return openGguf(`${path}/${first}`, template);
  }
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

/** As transformers, which refuses such an id only where it is used. */
function vocabularyWarnings({ vocabSize }: DecoderConfig, tokenizer: Tokenizer): readonly string[] {
  if (tokenizer.vocabSize <= vocabSize) return [];
  return [
    `the tokenizer has ${tokenizer.vocabSize} tokens, the embedding ${vocabSize}: ` +
    `ids from ${vocabSize} on are refused where they are used`,
  ];
}

function chatWarnings(
  { eosTokenIds }: DecoderConfig,
  template: ChatTemplate | undefined,
): readonly string[] {
  if (template === undefined) return [];
  if (template.fault !== undefined) return [`chat is refused, completions work: ${template.fault}`];
  return eosTokenIds.length > 0
    ? []
    : ["no token is known to end a turn: answers end at max_tokens or a stop string"];
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
  readonly sampling: SamplingDefaults;
  /** Added to those that the config names. */
  readonly ends: EndTokens;
  readonly warnings: readonly string[];
  readonly close: () => void;
}

class OpenCheckpoint implements Checkpoint {
  readonly #parts: Parts;
  readonly config: DecoderConfig;
  readonly warnings: readonly string[];
  readonly #digest: Once<string>;

  readonly chatTemplate: ChatTemplate | undefined;
  readonly templateChoice: TemplateChoice;

  constructor(readonly path: string, parts: Parts, options: OpenOptions) {
    const cache = options.cache ?? userCache();
    const { config, ends, tokenizer } = parts;
    const { chatTemplate: source, chatTemplateKwargs: kwargs = {} } = options;
    this.templateChoice = { chatTemplate: source, chatTemplateKwargs: kwargs };
    this.chatTemplate = parts.chatTemplate && withDefaults(parts.chatTemplate, kwargs);
    this.#parts = parts;
    const { paths, weights } = parts;
    this.#digest = new Once(() => cachedDigest(cache, paths, () => modelDigest(config, weights)));
    this.config = { ...config, eosTokenIds: ends.ids.filter((id) => id < config.vocabSize) };
    this.warnings = [
      ...parts.warnings,
      ...ends.warnings,
      ...vocabularyWarnings(config, tokenizer),
      ...chatWarnings(this.config, this.chatTemplate),
    ];
  }

  get id(): string {
    return this.#parts.id;
  }

  get weights(): WeightSource {
    return this.#parts.weights;
  }

  get tokenizer(): Tokenizer {
    return this.#parts.tokenizer;
  }

  get sampling(): SamplingDefaults {
    return this.#parts.sampling;
  }

  /** Of the config as the files have it: what else ends a turn makes no other model. */
  digest(): Promise<string> {
    return this.#digest.get();
  }

  close(): void {
    this.#parts.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openGguf(path: string, template: string | undefined): Parts {
  const parts = openGgufParts(path, refuseUnknown);
  try {
    const { header } = parts;
    const config = ggufDecoderConfig(header, (name) => readValues(header, name));
    const { ggufRows = "plain", fused } = architectureOf(header);
    const stored = new GgufWeights(parts, config, ggufRows);
    const weights = fused === undefined ? stored : new FusedWeights(stored, config, fused);
    const tokenizer = new JsonTokenizer(ggufTokenizerJson(header));
    return {
      id: ggufId(path),
      paths: parts.paths,
      config,
      weights,
      tokenizer,
      chatTemplate: ggufChatTemplate(header, template),
      sampling: ggufSampling(header),
      ends: ggufEndTokens(config.eosTokenIds, tokenizer),
      warnings: ggufTokenizerWarnings(header),
      close: parts.close,
    };
  } catch (error) {
    parts.close();
    throw error;
  }
}

function readValues({ tensors }: GgufParts["header"], name: string): number[] | undefined {
  const tensor = tensors.get(name);
  if (tensor === undefined) return undefined;
  return [...dequantise(tensor.type, tensor.file.read(tensor.offset, tensor.bytes))];
}

/** The file's name without its ending and without the name of its quantisation. */
function ggufId(path: string): string {
  const name = lastPart(path).replace(/(-\d{5}-of-\d{5})?\.gguf$/i, "");
  return name.replace(/[.-](I?Q\d\w*|B?F16|F32)$/i, "") || name;
}

function lastPart(path: string): string {
  return path.replace(/[/\\]+$/, "").split(/[/\\]/).at(-1) ?? path;
}

function ggufChatTemplate(
  header: GgufHeader,
  given: string | undefined,
): ChatTemplate | undefined {
  const tokens: SpecialTokens = Object.fromEntries(
    TEMPLATE_TOKENS.map(([name, token]) => [name, ggufSpecialToken(header, token) ?? ""]),
  );
  if (given !== undefined) return givenTemplate(given, tokens);
  const source = header.metadata.get("tokenizer.chat_template");
  if (typeof source !== "string") return undefined;
  const plain = chatTemplate(source, tokens);
  const withTools = header.metadata.get("tokenizer.chat_template.tool_use");
  if (typeof withTools !== "string") return plain;
  return pairedTemplate(plain, chatTemplate(withTools, tokens));
}

async function openDirectory(directory: string, template: string | undefined): Promise<Parts> {
  const generation = await optionalJson(`${directory}/generation_config.json`);
  const json = await readJson(`${directory}/config.json`);
  const config = decoderConfig(json, generation);
  const packing = quantisationOf(new Fields("config.json", json));
  const tokenizerJson = await readJson(`${directory}/tokenizer.json`);
  const tokenizer = new JsonTokenizer(readTokenizerJson(tokenizerJson));
  const { chatTemplate, specialTokens } = await readSidecars(directory, template);
  const paths = await safetensorsPaths(directory);
  const parts = {
    id: lastPart(await Deno.realPath(directory)),
    paths: [`${directory}/config.json`, ...paths],
    config,
    tokenizer,
    chatTemplate,
    sampling: configSampling(generation),
    ends: directoryEndTokens(config.eosTokenIds, specialTokens["eos_token"], tokenizer),
    warnings: [],
  };
  // last: from here on files are open
  const stored = SafetensorsWeights.open(paths);
  const read = packing === undefined ? stored : new QuantisedWeights(stored, packing);
  const { fused } = namedArchitecture(new Fields("config.json", json));
  const weights = fused === undefined ? read : new FusedWeights(read, config, fused);
  return { ...parts, weights, close: () => stored.close() };
}

/** The files of a directory's weights. */
export async function safetensorsPaths(directory: string): Promise<readonly string[]> {
  const index = await optionalJson(`${directory}/model.safetensors.index.json`);
  const names = index === undefined ? ["model.safetensors"] : shardNames(index);
  return names.map((name) => `${directory}/${name}`);
}
