/**
 * Shapes of everything that is not a completion: models, adapters, tokenising, health. OpenAI's
 * where OpenAI has them, else vLLM's.
 */
import { z } from "@hono/zod-openapi";
import { messageSchema, templateFields } from "./chat.ts";
import { promptText } from "./common.ts";

export const samplingDefaultsSchema = z.object({
  temperature: z.number(),
  top_p: z.number(),
  top_k: z.int().openapi({ description: "0 or -1 = off." }),
  min_p: z.number(),
  repetition_penalty: z.number(),
  max_tokens: z.int().nullable().openapi({
    description:
      "The most tokens of any output, also where a request asks for more; null = no bound.",
  }),
}).openapi("SamplingDefaults", {
  description: "What holds where a request says nothing: of `--generation-config`.",
});
export type SamplingDefaultsBody = z.output<typeof samplingDefaultsSchema>;

const precisionSchema = z.object({
  dtype: z.string().openapi({
    description: "What is served: what `--dtype auto` was taken for, or what was asked for.",
  }),
  weight_types: z.array(z.string()).openapi({
    description: "Types of the file's linears, those with most numbers first.",
  }),
  perplexity_percent: z.number().optional().openapi({
    description: "Perplexity over the file's own in float32, in percent, as `deno task bench " +
      "quality-base` measured it on this machine; absent where it has not.",
  }),
}).openapi("Precision");

export const modelSchema = z.object({
  id: z.string().openapi({
    description: "An adapter's as it was given; of another tenant with that in front.",
  }),
  full_name: z.string().optional().openapi({
    description: "`tenant/name@version` of an adapter, which stands for one content.",
  }),
  object: z.literal("model"),
  created: z.int(),
  owned_by: z.string(),
  root: z.string().openapi({ description: "Where it was loaded from." }),
  parent: z.string().nullable().openapi({
    description: "The base of an adapter; null for a base.",
  }),
  max_model_len: z.int(),
  precision: precisionSchema,
  sampling_defaults: samplingDefaultsSchema,
}).openapi("Model");
export type ModelBody = z.output<typeof modelSchema>;

export const modelListSchema = z.object({
  object: z.literal("list"),
  data: z.array(modelSchema),
}).openapi("ModelList");

export const modelDeletedSchema = z.object({
  id: z.string(),
  object: z.literal("model"),
  deleted: z.literal(true),
}).openapi("ModelDeleted");

export const loadAdapterSchema = z.object({
  lora_name: z.string().min(1).max(256),
  lora_path: z.string().min(1).max(4096).openapi({
    description:
      "A PEFT LoRA directory, or a core or LoRA file, below the adapters' directory; or " +
      "`hf:owner/name` on the hub.",
  }),
  load_inplace: z.boolean().nullish().openapi({ description: "Replaces one of the same name." }),
  project: z.boolean().nullish().openapi({
    description:
      "Brings a PEFT LoRA onto the factors, as a core, where they hold all but 5% of it; " +
      "else it is served as it is.",
  }),
  allow_lossy: z.boolean().nullish().openapi({
    description: "Projects it whatever the factors lose of it; the answer says how much.",
  }),
  base_model_name: z.string().nullish(),
}).openapi("LoadLoraAdapterRequest");

export const unloadAdapterSchema = z.object({
  lora_name: z.string().min(1).max(256),
  lora_int_id: z.int().nullish().openapi({ description: "Accepted and not used (vLLM)." }),
}).openapi("UnloadLoraAdapterRequest");

const tokenizeFields = {
  model: z.string().min(1).nullish(),
  add_special_tokens: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
} as const;

export const tokenizeRequestSchema = z.object({
  ...tokenizeFields,
  ...templateFields,
  prompt: promptText.optional(),
  messages: z.array(messageSchema).min(1).optional(),
  content: promptText.optional().openapi({ description: "A text (llama.cpp)." }),
  add_special: z.boolean().nullish().openapi({
    description: "Whether `content` gets the tokenizer's own special tokens (default: no).",
  }),
  with_pieces: z.boolean().nullish().openapi({
    description: "Tells each token of `content` with its text, or its bytes where it is no text.",
  }),
}).openapi("TokenizeRequest", { description: "One of `prompt`, `messages` and `content`." });
export type TokenizeRequest = Readonly<z.output<typeof tokenizeRequestSchema>>;

export const tokenizeResponseSchema = z.object({
  count: z.int(),
  max_model_len: z.int(),
  tokens: z.array(z.union([
    z.int(),
    z.object({ id: z.int(), piece: z.union([z.string(), z.array(z.int())]) }),
  ])),
  token_strs: z.array(z.string()).nullable(),
}).openapi("TokenizeResponse");

/** What clients that encode through this server ask of its tokenizer (vLLM, lm-evaluation-harness). */
export const tokenizerInfoSchema = z.object({
  tokenizer_class: z.string(),
  vocab_size: z.int(),
  model_max_length: z.int(),
  bos_token: z.string().nullable(),
  eos_token: z.string().nullable(),
  pad_token: z.string().nullable(),
  chat_template: z.string().nullable(),
}).openapi("TokenizerInfo");

export const detokenizeRequestSchema = z.object({
  model: z.string().min(1).nullish(),
  tokens: z.array(z.int().min(0)),
}).openapi("DetokenizeRequest");

export const detokenizeResponseSchema = z.object({
  prompt: z.string(),
  content: z.string().openapi({ description: "The same, by llama.cpp's name." }),
}).openapi("DetokenizeResponse");

export const readySchema = z.object({ status: z.literal("ready") }).openapi("Ready");

export const loadSchema = z.object({ server_load: z.int() }).openapi("Load");

export const serverInfoSchema = z.object({
  version: z.string(),
  model: z.string().openapi({ description: "Where it was loaded from." }),
  served_model_name: z.array(z.string()),
  dtype: z.string(),
  device: z.string(),
  max_model_len: z.int(),
  max_body_bytes: z.int(),
}).openapi("ServerInfo");

export const versionSchema = z.object({ version: z.string() }).openapi("Version");
