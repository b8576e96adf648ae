/** What llama.cpp's `/completion` asks for, as a run of the engine. */
import { isText } from "../../../src/checkpoint/text/prompt.ts";
import { outputLimit } from "../../../src/checkpoint/sampling_defaults.ts";
import type { SamplingParams } from "../../../src/engine/request/request.ts";
import type { ServedModel, ServerContext } from "../../context.ts";
import { invalid } from "../../errors.ts";
import { completionId } from "../../generate/answer.ts";
import { checkLength, checkTokenIds, encodePrompt, toSampling } from "../../generate/plan.ts";
import type { RunPlan } from "../../generate/run.ts";
import type { TextCaller } from "../../generate/text_turns.ts";
import type { LlamaRequest, PromptSequence, Settings } from "./schema.ts";

/** A bias under which a token is not drawn. */
const NEVER = -100;

/** A plan, and what the request asked of it. */
export interface LlamaPlan extends RunPlan {
  readonly params: SamplingParams;
  /** Tokens asked for, -1 = as many as fit; the context may end a sequence before. */
  readonly predict: number;
}

/**
 * Plans a run of one sample of each sequence. As in llama.cpp, one that would leave the context ends
 * with it, and is told to be truncated.
 * @throws {ApiError} 400 for what cannot be
 */
export async function planLlama(
  context: ServerContext,
  body: LlamaRequest,
  name: string,
  caller: TextCaller,
): Promise<LlamaPlan> {
  const { model, engine: { maxContext } } = context;
  const predict = body.n_predict ?? body.max_tokens ?? -1;
  const prompts: (readonly number[])[] = [];
  for (const [index, sequence] of sequencesOf(body.prompt).entries()) {
    const ids = await encodeSequence(context, sequence, `prompt[${index}]`, caller);
    checkLength("prompt", ids, maxContext, undefined);
    prompts.push(ids);
  }
  const left = maxContext - Math.max(...prompts.map(({ length }) => length));
  const asked = predict === -1 ? undefined : Math.min(predict, left);
  const maxTokens = outputLimit(asked, model.sampling);
  const params = samplingOf(model, body, maxTokens);
  return {
    id: completionId("cmpl-"),
    kind: "completion",
    model: name,
    prompts,
    sampling: maxTokens === 0 ? undefined : params,
    params,
    predict,
    n: 1,
    priority: 0,
  };
}

function samplingOf(
  model: ServedModel,
  body: LlamaRequest,
  maxTokens: number | undefined,
): SamplingParams {
  const { repeat_penalty, n_probs, seed, logit_bias, stream: _, prompt: __, ...same } = body;
  return toSampling({
    ...same,
    repetition_penalty: repeat_penalty,
    seed: typeof seed === "number" && seed < 0 ? undefined : seed,
    logit_bias: biasOf(model, logit_bias),
  }, { maxTokens: maxTokens || undefined, logprobs: n_probs || undefined, model });
}

/** Whether a prompt is a list of sequences. One that has texts and ids both is itself a sequence. */
export function isSeveral(
  prompt: LlamaRequest["prompt"],
): prompt is Exclude<PromptSequence, readonly number[]>[] {
  return Array.isArray(prompt) && !prompt.some((part) => typeof part === "number");
}

function sequencesOf(prompt: LlamaRequest["prompt"]): readonly PromptSequence[] {
  return isSeveral(prompt) ? prompt : [prompt as PromptSequence];
}

async function encodeSequence(
  { model, engine: { maxContext } }: ServerContext,
  sequence: PromptSequence,
  at: string,
  caller: TextCaller,
): Promise<readonly number[]> {
  const parts = Array.isArray(sequence)
    ? sequence
    : [isText(sequence) ? sequence : sequence.prompt_string];
  const room = { param: "prompt", maxContext, maxTokens: undefined, caller } as const;
  const ids: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (typeof part === "number") {
      checkTokenIds(at, [part], model.vocabSize);
      ids.push(part);
    } else {
      for (const id of await encodePrompt(model, part, index === 0, room)) ids.push(id);
    }
  }
  return ids;
}

/** By id, as the sampler takes it. */
function biasOf(
  { tokenizer, vocabSize }: Pick<ServedModel, "tokenizer" | "vocabSize">,
  given: LlamaRequest["logit_bias"],
): Record<string, number> | undefined {
  if (!given) return undefined;
  const entries = Array.isArray(given) ? given : Object.entries(given);
  const pairs = entries.flatMap(([key, value]) => {
    const bias = value === false ? NEVER : value;
    const ids = typeof key === "number" || /^\d{1,9}$/.test(key)
      ? [Number(key)]
      : tokenizer.encode(key, { addSpecialTokens: false });
    return ids.map((id) => [id, bias] as const);
  });
  const [unknown] = pairs.find(([id]) => id >= vocabSize) ?? [];
  if (unknown !== undefined) {
    throw invalid("logit_bias", `Invalid 'logit_bias': there is no token with the id ${unknown}.`);
  }
  return Object.fromEntries(pairs);
}

/** What holds, in llama.cpp's names. */
export function settingsOf(
  { eosTokenIds }: Pick<ServedModel, "eosTokenIds">,
  { params: sampling, predict }: LlamaPlan,
  stream: boolean,
): Settings {
  const never = sampling.ignoreEos ? eosTokenIds : [];
  return {
    n_predict: predict,
    seed: sampling.seed ?? null,
    temperature: sampling.temperature,
    top_k: sampling.topK,
    top_p: sampling.topP,
    min_p: sampling.minP,
    repeat_penalty: sampling.repetitionPenalty,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    ignore_eos: sampling.ignoreEos,
    stop: [...sampling.stop],
    n_probs: sampling.logprobs ?? 0,
    stream,
    logit_bias: [
      ...never.map((token) => ({ token, bias: null })),
      ...[...sampling.logitBias].map(([token, bias]) => ({
        token,
        bias: bias === NEVER ? null : bias,
      })),
    ],
  };
}
