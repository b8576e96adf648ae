/**
 * How a checkpoint's authors would have it sampled, from its `generation_config.json`, its GGUF keys
 * or a folder. As vLLM's `--generation-config`, which reads these fields and no others: `do_sample` is
 * not among them, so a config that says `"do_sample": false` is no request for greedy decoding.
 */
import { exists } from "./fetch/cache.ts";
import type { Checkpoint, SamplingDefaults } from "./checkpoint.ts";
import { Fields } from "./fields.ts";
import type { GgufHeader } from "./formats/gguf.ts";

/**
 * Where the defaults come from: `auto` = the model's files, and where they say nothing what its card
 * says, as far as lembas knows it; `model` = its files alone; `none` = nowhere, all is neutral;
 * anything else = the folder of a `generation_config.json`.
 */
export type GenerationConfig = "auto" | "model" | "none" | (string & Record<never, never>);

const FILE = "generation_config.json";

/** The authors' values of models whose files have none, by id, from their model cards. */
const CARDS: ReadonlyMap<string, SamplingDefaults> = new Map([
  ["SmolLM2-135M-Instruct", { temperature: 0.2, topP: 0.9 }],
]);

/** @throws {TypeError} for a field of the wrong type, by name */
export function configSampling(generation: unknown, source: string = FILE): SamplingDefaults {
  const fields = new Fields(source, generation ?? {});
  return given({
    temperature: fields.optionalNumber("temperature"),
    topP: fields.optionalNumber("top_p"),
    topK: fields.optionalNumber("top_k"),
    minP: fields.optionalNumber("min_p"),
    repetitionPenalty: fields.optionalNumber("repetition_penalty"),
    maxTokens: fields.optionalCount("max_new_tokens"),
  });
}

/** llama.cpp's keys, into which its converter writes a `generation_config.json`. */
export function ggufSampling({ metadata }: Pick<GgufHeader, "metadata">): SamplingDefaults {
  const fields = new Fields("the GGUF metadata", Object.fromEntries(metadata))
    .under("general.sampling.");
  // float32 as its shortest decimal: 0.2, not 0.20000000298023224
  const number = (name: string) => {
    const value = fields.optionalNumber(name);
    return value === undefined ? undefined : Number(value.toPrecision(7));
  };
  return given({
    temperature: number("temp"),
    topP: number("top_p"),
    topK: number("top_k"),
    minP: number("min_p"),
    repetitionPenalty: number("penalty_repeat"),
  });
}

/**
 * The defaults of a checkpoint.
 * @throws {TypeError} where a folder has no `generation_config.json`, or one that cannot be read
 */
export async function samplingDefaults(
  choice: GenerationConfig,
  { id, sampling }: Pick<Checkpoint, "id" | "sampling">,
): Promise<SamplingDefaults> {
  switch (choice) {
    case "none":
      return {};
    case "model":
      return sampling;
    case "auto":
      return Object.keys(sampling).length > 0 ? sampling : CARDS.get(id) ?? {};
    default:
      return await folderSampling(choice);
  }
}

async function folderSampling(folder: string): Promise<SamplingDefaults> {
  const path = `${folder}/${FILE}`;
  // a file where the folder should be is no folder either
  if (!await exists(path).catch(() => false)) {
    throw new TypeError(
      `Cannot use generation config '${folder}' (--generation-config): there is no ${path}; ` +
        "it must be auto, model, none or a folder that has one",
    );
  }
  try {
    return configSampling(JSON.parse(await Deno.readTextFile(path)), path);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new TypeError(`Cannot read ${path}: it is not JSON`, { cause });
  }
}

/** The most tokens of an output; undefined = as many as fit. */
export function outputLimit(
  asked: number | undefined,
  { maxTokens }: SamplingDefaults,
): number | undefined {
  if (asked === undefined || maxTokens === undefined) return asked ?? maxTokens;
  return Math.min(asked, maxTokens);
}

type Read = { readonly [K in keyof SamplingDefaults]: SamplingDefaults[K] | undefined };

/** Without what is absent. */
function given(read: Read): SamplingDefaults {
  return Object.fromEntries(Object.entries(read).filter(([, value]) => value !== undefined));
}
