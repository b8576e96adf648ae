/**
 * From a request's fields to the engine's sampling parameters; where the request says nothing, the
 * model's defaults hold. The schema checks ranges that need no model, the engine those that need
 * the vocabulary.
 */
import type { Grammar } from "../../src/grammar/pool.ts";
import type { SamplingParams } from "../../src/engine/request/request.ts";
import { DEFAULT_SAMPLING, validateSampling } from "../../src/engine/request/sampling.ts";
import type { ServedModel } from "../context.ts";
import type { SamplingDefaultsBody } from "../http/schema/admin.ts";
import type { GenerationFields } from "../http/schema/common.ts";

/** What the two endpoints call by different names. */
export interface SamplingLimits {
  readonly maxTokens: number | undefined;
  /** How many alternatives to report; undefined = no log probabilities. */
  readonly logprobs: number | undefined;
  /** What holds where the request says nothing, and the model's vocabulary. */
  readonly model: Pick<ServedModel, "sampling" | "vocabSize">;
}

/** @throws {FieldError | FieldRangeError} of a field that cannot be as it is. */
export function toSampling(body: GenerationFields, limits: SamplingLimits): SamplingParams {
  const { sampling, vocabSize } = limits.model;
  const defaults = { ...DEFAULT_SAMPLING, ...sampling };
  const params: SamplingParams = {
    temperature: body.temperature ?? defaults.temperature,
    topP: body.top_p ?? defaults.topP,
    topK: body.top_k ?? defaults.topK,
    minP: body.min_p ?? defaults.minP,
    presencePenalty: body.presence_penalty ?? DEFAULT_SAMPLING.presencePenalty,
    frequencyPenalty: body.frequency_penalty ?? DEFAULT_SAMPLING.frequencyPenalty,
    repetitionPenalty: body.repetition_penalty ?? defaults.repetitionPenalty,
    logitBias: toBias(body.logit_bias),
    seed: body.seed ?? undefined,
    maxTokens: limits.maxTokens,
    minTokens: body.min_tokens ?? DEFAULT_SAMPLING.minTokens,
    stop: typeof body.stop === "string" ? [body.stop] : body.stop ?? [],
    stopTokenIds: body.stop_token_ids ?? [],
    includeStopInOutput: body.include_stop_str_in_output ?? false,
    ignoreEos: body.ignore_eos ?? false,
    skipSpecialTokens: body.skip_special_tokens ?? true,
    logprobs: limits.logprobs,
    grammar: toGrammar(body.response_format),
  };
  validateSampling(params, vocabSize);
  return params;
}

function toBias(bias: GenerationFields["logit_bias"]): ReadonlyMap<number, number> {
  if (!bias) return DEFAULT_SAMPLING.logitBias;
  return new Map(Object.entries(bias).map(([id, value]) => [Number(id), value]));
}

function toGrammar(format: GenerationFields["response_format"]): Grammar | undefined {
  switch (format?.type) {
    case "json_object":
      return { type: "json" };
    case "json_schema": {
      const { schema, strict } = format.json_schema;
      return { type: "json_schema", schema, strict: strict ?? false };
    }
    default:
      return undefined;
  }
}

/** The defaults as the API spells them: every field that has one, the neutral ones too. */
export function samplingBody(sampling: ServedModel["sampling"]): SamplingDefaultsBody {
  const { temperature, topP, topK, minP, repetitionPenalty } = { ...DEFAULT_SAMPLING, ...sampling };
  return {
    temperature,
    top_p: topP,
    top_k: topK,
    min_p: minP,
    repetition_penalty: repetitionPenalty,
    max_tokens: sampling.maxTokens ?? null,
  };
}

/** For the log: `temperature 0.2, top_p 0.9, top_k 0, …`. */
export function describeSampling(sampling: ServedModel["sampling"]): string {
  return Object.entries(samplingBody(sampling))
    .map(([name, value]) => `${name} ${value ?? "unbounded"}`).join(", ");
}
