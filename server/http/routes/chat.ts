/** `POST /v1/chat/completions`: plans a chat as a run of the engine, and shapes its answer. */
import { unixSeconds } from "../../../src/util/time.ts";
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import { outputLimit } from "../../../src/checkpoint/sampling_defaults.ts";
import type { GenerationDelta, TokenLogprob } from "../../../src/engine/request/request.ts";
import {
  chunkEvents,
  type ChunkHead,
  collect,
  completionId,
  noteUsage,
  type Sample,
  streamAnswer,
  usageWanted,
} from "../../generate/answer.ts";
import type { App, AppContext, ServerContext } from "../../context.ts";
import { post } from "../endpoint.ts";
import { invalid } from "../../errors.ts";
import { chatLogprobs, promptLogprobs } from "../../generate/logprobs.ts";
import { baseName, resolveTarget, type Target } from "../../generate/model_name.ts";
import { checkLength, encodeChat, refuseStreamedPrompt, toSampling } from "../../generate/plan.ts";
import { type Run, startRun } from "../../generate/run.ts";
import {
  chatChunkSchema,
  type ChatCompletion,
  chatCompletionSchema,
  type ChatRequest,
  chatRequestSchema,
} from "../schema/chat.ts";
import type { TextCaller } from "../../generate/text_turns.ts";

export function registerChat(app: App, context: ServerContext): void {
  post(app, {
    method: "post",
    path: "/v1/chat/completions",
    tag: "completions",
    summary: "Answers a conversation.",
    body: chatRequestSchema,
    lenient: true,
    ok: {
      description: "The completion, or ChatCompletionChunk events where `stream` is true.",
      json: chatCompletionSchema,
      events: chatChunkSchema,
    },
    errors: [429],
    scopes: ["infer"],
  }, (c, body) => answerChat(context, c, body));
}

/**
 * Answers a conversation for the request's principal.
 * @throws {ApiError} where there will be no answer
 */
export async function answerChat(
  context: ServerContext,
  c: AppContext,
  body: ChatRequest,
): Promise<Response> {
  const model = body.model ?? baseName(context.model);
  c.get("notes").model = model;
  const usage = usageWanted(body);
  refuseStreamedPrompt(body);
  const { tenant } = c.get("principal");
  const target = await resolveTarget(context, c.get("principal"), model, body.adapter);
  const run = await startRun(
    context,
    c,
    target,
    (signal) => planChat(context, { ...body, model }, { tenant, signal }),
  );
  const head = chatHead(run.plan.id, model, target);
  if (!body.stream) return await whole(context, c, { head, body, run });
  const write = choiceWriter(context.model.tokenizer, body, run);
  const silent = !body.return_token_ids;
  return streamAnswer(context, c, run, chunkEvents(head, run, usage, write, { silent }));
}

async function planChat(
  context: ServerContext,
  body: ChatRequest & { readonly model: string },
  caller: TextCaller,
) {
  const { model, engine: { maxContext } } = context;
  const asked = body.max_completion_tokens ?? body.max_tokens ?? undefined;
  const maxTokens = outputLimit(asked, model.sampling);
  const prompt = await encodeChat(model, body, { maxContext, maxTokens, caller });
  checkLength("messages", prompt, maxContext, maxTokens);
  return {
    id: completionId("chatcmpl"),
    kind: "chat" as const,
    model: body.model,
    prompts: [prompt],
    sampling: toSampling(body, {
      maxTokens,
      logprobs: wantedLogprobs(body),
      model,
    }),
    n: body.n ?? 1,
    priority: body.priority ?? 0,
    promptLogprobs: body.prompt_logprobs ?? undefined,
  };
}

function wantedLogprobs({ logprobs, top_logprobs: top }: ChatRequest): number | undefined {
  if (logprobs) return top ?? 0;
  if (top) {
    throw invalid("top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true.");
  }
  return undefined;
}

function chatHead(id: string, model: string, target: Target): ChunkHead {
  return {
    id,
    object: "chat.completion.chunk",
    created: unixSeconds(),
    model,
    system_fingerprint: target.fingerprint,
  };
}

/** Writes deltas; the first one of each sample has the role. */
function choiceWriter(
  tokenizer: Tokenizer,
  body: ChatRequest,
  { plan: { prompts } }: Run,
): (delta: GenerationDelta) => string {
  const begun = new Set<number>();
  const idsOf = ({ index, tokens }: GenerationDelta) => {
    if (!body.return_token_ids) return "";
    const ids = `,"token_ids":${JSON.stringify(tokens)}`;
    return begun.has(index) ? ids : `${ids},"prompt_token_ids":${JSON.stringify(prompts[0])}`;
  };
  return (delta) => {
    const { index, text, logprobs } = delta;
    const content = `"content":${JSON.stringify(text)}},"logprobs":` +
      (logprobs === undefined ? "null" : JSON.stringify(wrap(tokenizer, logprobs, body))) +
      idsOf(delta);
    if (begun.has(index)) return `"delta":{${content}`;
    begun.add(index);
    return `"delta":{"role":"assistant",${content}`;
  };
}

function wrap(tokenizer: Tokenizer, logprobs: readonly TokenLogprob[], body: ChatRequest) {
  return { content: chatLogprobs(tokenizer, logprobs, body), refusal: null };
}

async function whole(
  context: ServerContext,
  c: AppContext,
  { head, body, run }: { readonly head: ChunkHead; readonly body: ChatRequest; readonly run: Run },
): Promise<Response> {
  const { tokenizer } = context.model;
  try {
    const samples = await collect(run, run.plan.n);
    await run.complete();
    const usage = run.usage();
    noteUsage(c, usage);
    const completion: ChatCompletion = {
      ...head,
      object: "chat.completion",
      choices: samples.map((sample) => toChoice(tokenizer, sample, body)),
      usage,
      ...ofPrompt(tokenizer, body, run),
    };
    return c.json(completion);
  } finally {
    run.close();
  }
}

/** What is asked for of the prompt (vLLM). */
function ofPrompt(tokenizer: Tokenizer, body: ChatRequest, run: Run) {
  const { prompt_logprobs: asked, return_token_ids: ids } = body;
  const scored = run.promptLogprobs(0);
  return {
    ...(typeof asked === "number" && scored !== undefined &&
      { prompt_logprobs: promptLogprobs(tokenizer, scored, asked) }),
    ...(ids && { prompt_token_ids: [...run.plan.prompts[0] ?? []] }),
  };
}

function toChoice(
  tokenizer: Tokenizer,
  sample: Sample,
  body: ChatRequest,
): ChatCompletion["choices"][number] {
  return {
    index: sample.index,
    message: { role: "assistant", content: sample.text, refusal: null },
    logprobs: sample.logprobs === undefined ? null : wrap(tokenizer, sample.logprobs, body),
    finish_reason: sample.finishReason,
    stop_reason: sample.stopReason ?? null,
    ...(body.return_token_ids && { token_ids: [...sample.tokens] }),
  };
}
