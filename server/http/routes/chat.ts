/** `POST /v1/chat/completions`: starts a chat, and shapes its answer. */
import { unixSeconds } from "../../../src/util/time.ts";
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import type { TokenLogprob } from "../../../src/engine/request/request.ts";
import {
  type AnswerDelta,
  type ChoiceWriter,
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
import { chatLogprobs, promptLogprobs } from "../../generate/logprobs.ts";
import type { Target } from "../../generate/model_name.ts";
import { startChat } from "../../generate/chat_run.ts";
import { refuseStreamedPrompt } from "../../generate/plan.ts";
import type { Run } from "../../generate/run.ts";
import type { Calling } from "../../generate/tools.ts";
import { readCalls, withCalls } from "../../generate/call_answer.ts";
import {
  chatChunkSchema,
  type ChatCompletion,
  chatCompletionSchema,
  type ChatRequest,
  chatRequestSchema,
} from "../schema/chat.ts";

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
  const usage = usageWanted(body);
  refuseStreamedPrompt(body);
  const { run, model, target, calling } = await startChat(
    context,
    c,
    body,
    completionId("chatcmpl-"),
  );
  const head = chatHead(run.plan.id, model, target);
  if (!body.stream) return await whole(context, c, { head, body, run, calling });
  const write = choiceWriter(context.model.tokenizer, body, run);
  const deltas = calling === undefined ? run : withCalls(run, calling);
  const parts = { silent: !body.return_token_ids, deltas };
  return streamAnswer(context, c, run, chunkEvents(head, run, usage, write, parts));
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
): ChoiceWriter {
  const begun = new Set<number>();
  const idsOf = ({ index, tokens }: AnswerDelta) => {
    if (!body.return_token_ids) return "";
    const ids = `,"token_ids":${JSON.stringify(tokens)}`;
    return begun.has(index) ? ids : `${ids},"prompt_token_ids":${JSON.stringify(prompts[0])}`;
  };
  return (delta) => {
    const { index, text, call, logprobs } = delta;
    const said = call === undefined
      ? `"content":${JSON.stringify(text)}`
      : `"tool_calls":[${JSON.stringify(call)}]`;
    const content = `${said}},"logprobs":` +
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

/** A run and what is to be told of it. */
interface Answered {
  readonly head: ChunkHead;
  readonly body: ChatRequest;
  readonly run: Run;
  readonly calling: Calling | undefined;
}

async function whole(
  context: ServerContext,
  c: AppContext,
  { head, body, run, calling }: Answered,
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
      choices: samples.map((sample) => toChoice(tokenizer, sample, body, calling)),
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

type Choice = ChatCompletion["choices"][number];

function toChoice(
  tokenizer: Tokenizer,
  sample: Sample,
  body: ChatRequest,
  calling: Calling | undefined,
): Choice {
  return {
    index: sample.index,
    ...(calling === undefined ? said(sample) : called(sample, calling)),
    logprobs: sample.logprobs === undefined ? null : wrap(tokenizer, sample.logprobs, body),
    stop_reason: sample.stopReason ?? null,
    ...(body.return_token_ids && { token_ids: [...sample.tokens] }),
  };
}

function said({ text, finishReason }: Sample): Pick<Choice, "message" | "finish_reason"> {
  return {
    message: { role: "assistant", content: text, refusal: null },
    finish_reason: finishReason,
  };
}

/** Content that is empty beside calls is null, as OpenAI has it. */
function called(sample: Sample, calling: Calling): Pick<Choice, "message" | "finish_reason"> {
  const { content, calls, finishReason } = readCalls(sample, calling);
  if (calls.length === 0) return said({ ...sample, text: content });
  return {
    message: {
      role: "assistant",
      content: content || null,
      refusal: null,
      tool_calls: [...calls],
    },
    finish_reason: finishReason,
  };
}
