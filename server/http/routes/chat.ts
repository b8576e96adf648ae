/** `POST /v1/chat/completions`: starts a chat, and shapes its answer. */
import { joinLines, stringOf } from "../../../src/checkpoint/text/prompt.ts";
import { unixSeconds } from "../../../src/util/time.ts";
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import type { TokenLogprob } from "../../../src/engine/request/request.ts";
import {
  type AnswerDelta,
  type ChoiceWriter,
  chunkEvents,
  type ChunkHead,
  chunkOptions,
  collect,
  completionId,
  noteUsage,
  type Sample,
  streamAnswer,
} from "../../generate/answer.ts";
import { type App, type AppContext, askerOf, type ServerContext } from "../../context.ts";
import { keptDeltas } from "../chats/gathered.ts";
import { chatKeeper, type KeepChat } from "../chats/kept.ts";
import { post } from "../endpoint.ts";
import { noteEffort, noteVerbosity } from "../no_effect.ts";
import { chatLogprobs, namingTokens, promptLogprobs } from "../../generate/logprobs.ts";
import { metricsTold } from "../../generate/extras/request_metrics.ts";
import type { Target } from "../../generate/model_name.ts";
import { startChat } from "../../generate/chat_run.ts";
import { refuseStreamedPrompt } from "../../generate/plan.ts";
import type { Run } from "../../generate/run.ts";
import type { Calling } from "../../generate/tools.ts";
import { readCalls, withCalls } from "../../generate/call_answer.ts";
import type { UsageBody } from "../schema/common.ts";
import {
  type ChatBatchRequest,
  chatBatchSchema,
  chatChunkSchema,
  type ChatCompletion,
  chatCompletionSchema,
  type ChatRequest,
  chatRequestSchema,
} from "../schema/chat.ts";
import { type Clock, timingsOf } from "../llama/answer.ts";

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
  post(app, {
    method: "post",
    path: "/v1/chat/completions/batch",
    tag: "completions",
    summary: "Answers several conversations at once (vLLM).",
    body: chatBatchSchema,
    lenient: true,
    ok: { description: "The completion, a choice a conversation.", json: chatCompletionSchema },
    errors: [429],
    scopes: ["infer"],
  }, (c, body) => answerBatch(context, c, body));
}

/**
 * Answers a conversation for the request's principal.
 * @throws {ApiError} where there will be no answer
 */
export async function answerChat(
  context: ServerContext,
  c: AppContext,
  given: ChatRequest,
): Promise<Response> {
  const body = namingTokens(context, given);
  const options = chunkOptions(context, body);
  refuseStreamedPrompt(body);
  const echo = echoed(body);
  noteVain(context, c, body);
  const id = completionId("chatcmpl-");
  const keep = await chatKeeper(context, c, body, id);
  const asked = performance.now();
  const { run, model, target, calling } = await startChat(context, askerOf(c), body, id);
  const timings = timingsTold(body, run, { asked, first: performance.now() });
  const head = chatHead(id, model, target);
  if (!body.stream) {
    return await whole(context, c, { head, body, echo, run, calling, timings, keep });
  }
  const write = choiceWriter(context.model.tokenizer, body, echo);
  const said = calling === undefined ? run : withCalls(run, calling);
  const deltas = keep === undefined ? said : keptDeltas(said, {
    ...{ count: run.plan.n, begin: echo },
    keep: (choices) => keep(completionOf(head, choices, run)),
  });
  const begin = body.return_token_ids ? { prompt_token_ids: run.plan.prompts[0] } : {};
  const end = () => metricsTold(context, run);
  const parts = { silent: !body.return_token_ids, begin, each: timings, end, deltas };
  return streamAnswer(context, c, run, chunkEvents(head, run, options, write, parts));
}

function noteVain(
  { model }: ServerContext,
  c: AppContext,
  body: Pick<ChatRequest, "verbosity" | "reasoning_effort">,
): void {
  noteVerbosity(c, "verbosity", body.verbosity);
  noteEffort(c, model, "reasoning_effort", body.reasoning_effort);
}

/** Tells how fast a run is, where that is asked for. */
function timingsTold(body: ChatRequest, run: Run, clock: Clock) {
  if (!body.timings_per_token) return undefined;
  return () => {
    const { prompt_tokens: prompt, completion_tokens: predicted, ...usage } = run.usage();
    const { cached_tokens: cached } = usage.prompt_tokens_details;
    return { timings: timingsOf(clock, { cached, computed: prompt - cached, predicted }) };
  };
}

/** Each conversation is a chat of its own; none runs on where one cannot begin, or fails. */
async function answerBatch(
  context: ServerContext,
  c: AppContext,
  { messages: conversations, ...shared }: ChatBatchRequest,
): Promise<Response> {
  noteVain(context, c, shared);
  const runs: Run[] = [];
  const begin = async (messages: ChatRequest["messages"]): Promise<Answered> => {
    const alone: ChatRequest = { ...shared, messages, tools: undefined, store: false };
    const body = namingTokens(context, alone);
    const echo = echoed(body);
    const { run, model, target, calling } = await startChat(
      context,
      askerOf(c),
      body,
      completionId("chatcmpl-"),
    );
    runs.push(run);
    const head = chatHead(run.plan.id, model, target);
    return { head, body, echo, run, calling, timings: undefined, keep: undefined };
  };
  try {
    const begun = conversations.map(begin);
    // whatever becomes of some, what has begun can then be ended
    await Promise.allSettled(begun);
    const started = await Promise.all(begun);
    const answers = await Promise.all(started.map((each) => wholeOf(context, each)));
    const [first] = answers;
    if (first === undefined) throw new RangeError("internal: a batch without conversations");
    const usage = answers.map((one) => one.usage).reduce(addedUsage);
    noteUsage(c, usage);
    const choices = answers.flatMap((one, index) =>
      one.choices.map((choice) => ({ ...choice, index }))
    );
    return c.json({ ...first, choices, usage });
  } finally {
    for (const run of runs) run.close();
  }
}

function addedUsage(a: UsageBody, b: UsageBody): UsageBody {
  const reasoned = a.completion_tokens_details !== undefined;
  const tokens = (usage: UsageBody) => usage.completion_tokens_details?.reasoning_tokens ?? 0;
  const cached = (usage: UsageBody) => usage.prompt_tokens_details.cached_tokens;
  return {
    prompt_tokens: a.prompt_tokens + b.prompt_tokens,
    completion_tokens: a.completion_tokens + b.completion_tokens,
    total_tokens: a.total_tokens + b.total_tokens,
    prompt_tokens_details: { cached_tokens: cached(a) + cached(b) },
    ...(reasoned && { completion_tokens_details: { reasoning_tokens: tokens(a) + tokens(b) } }),
  };
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

/** Writes deltas; the first one of each sample has the role, and what is echoed. */
function choiceWriter(tokenizer: Tokenizer, body: ChatRequest, echo: string): ChoiceWriter {
  const begun = new Set<number>();
  const idsOf = ({ tokens }: AnswerDelta) =>
    body.return_token_ids ? `,"token_ids":${JSON.stringify(tokens)}` : "";
  return (delta) => {
    const { index, call, logprobs } = delta;
    const text = begun.has(index) ? delta.text : echo + delta.text;
    const thought = delta.reasoning ? `"reasoning":${JSON.stringify(delta.reasoning)}` : "";
    const said = call === undefined
      ? `"content":${JSON.stringify(text)}`
      : `"tool_calls":[${JSON.stringify(call)}]`;
    const silent = thought !== "" && text === "" && call === undefined;
    const content =
      `${silent ? thought : thought && `${thought},`}${silent ? "" : said}},"logprobs":` +
      (logprobs === undefined ? "null" : JSON.stringify(wrap(tokenizer, logprobs, body))) +
      idsOf(delta);
    if (begun.has(index)) return `"delta":{${content}`;
    begun.add(index);
    return `"delta":{"role":"assistant",${content}`;
  };
}

/**
 * The text that `echo` puts before an answer. Trap: bytes of a long one are gone once the chat has been
 * rendered.
 */
function echoed({ echo, messages }: ChatRequest): string {
  const { role, content } = messages.at(-1) ?? {};
  if (!echo || role !== "assistant" || !content) return "";
  return stringOf(Array.isArray(content) ? joinLines(content.map(({ text }) => text)) : content);
}

function wrap(tokenizer: Tokenizer, logprobs: readonly TokenLogprob[], body: ChatRequest) {
  return { content: chatLogprobs(tokenizer, logprobs, body), refusal: null };
}

/** A run and what is to be told of it. */
interface Answered {
  readonly head: ChunkHead;
  readonly body: ChatRequest;
  /** What stands before each answer. */
  readonly echo: string;
  readonly run: Run;
  readonly calling: Calling | undefined;
  readonly timings: ReturnType<typeof timingsTold>;
  readonly keep: KeepChat | undefined;
}

function completionOf(head: ChunkHead, choices: Choice[], run: Run): ChatCompletion {
  return { ...head, object: "chat.completion", choices, usage: run.usage() };
}

async function whole(
  context: ServerContext,
  c: AppContext,
  answered: Answered,
): Promise<Response> {
  try {
    const completion = await wholeOf(context, answered);
    noteUsage(c, completion.usage);
    await answered.keep?.(completion);
    return c.json(completion);
  } finally {
    answered.run.close();
  }
}

async function wholeOf(
  context: ServerContext,
  { head, body, echo, run, calling, timings }: Answered,
): Promise<ChatCompletion> {
  const { tokenizer } = context.model;
  const samples = await collect(run, run.plan.n);
  await run.complete();
  const choices = samples.map((sample) => toChoice(tokenizer, sample, body, { echo, calling }));
  return {
    ...completionOf(head, choices, run),
    ...ofPrompt(tokenizer, body, run),
    ...timings?.(),
    ...metricsTold(context, run),
    ...(body.verbose && { __verbose: verboseOf(tokenizer, run) }),
  };
}

/** The prompt as it was read (llama.cpp). */
function verboseOf(tokenizer: Tokenizer, { plan }: Run): ChatCompletion["__verbose"] {
  const [ids = []] = plan.prompts;
  const prompt = tokenizer.decode(ids, { skipSpecialTokens: false });
  return { prompt, tokens_evaluated: ids.length };
}

/** What is asked for of the prompt (vLLM). */
function ofPrompt(tokenizer: Tokenizer, body: ChatRequest, run: Run) {
  const { prompt_logprobs: asked, return_token_ids: ids } = body;
  const scored = run.promptLogprobs(0);
  return {
    prompt_logprobs: typeof asked === "number" && scored !== undefined
      ? promptLogprobs(tokenizer, scored, asked)
      : null,
    prompt_token_ids: ids ? [...run.plan.prompts[0] ?? []] : null,
  };
}

type Choice = ChatCompletion["choices"][number];

function toChoice(
  tokenizer: Tokenizer,
  sample: Sample,
  body: ChatRequest,
  { echo, calling }: Pick<Answered, "echo" | "calling">,
): Choice {
  return {
    index: sample.index,
    ...(calling === undefined
      ? said({ ...sample, text: echo + sample.text })
      : called(sample, calling, echo)),
    logprobs: sample.logprobs === undefined ? null : wrap(tokenizer, sample.logprobs, body),
    stop_reason: sample.stopReason ?? null,
    token_ids: body.return_token_ids ? [...sample.tokens] : null,
  };
}

/** Content that is empty beside reasoning is null, as vLLM has it. */
function said(sample: Sample): Pick<Choice, "message" | "finish_reason"> {
  const { text, reasoning, finishReason } = sample;
  return {
    message: {
      role: "assistant",
      content: reasoning ? text || null : text,
      refusal: null,
      ...thought(sample),
    },
    finish_reason: finishReason,
  };
}

/** Null where the model did not reason, or nobody wants to see it. */
function thought({ reasoning }: Sample) {
  return reasoning === undefined ? {} : { reasoning: reasoning || null };
}

/** Content that is empty beside calls is null, as OpenAI has it. */
function called(
  sample: Sample,
  calling: Calling,
  echo: string,
): Pick<Choice, "message" | "finish_reason"> {
  const { content: own, calls, finishReason } = readCalls(sample, calling);
  const content = echo + own;
  if (calls.length === 0) return said({ ...sample, text: content });
  return {
    message: {
      role: "assistant",
      content: content || null,
      refusal: null,
      ...thought(sample),
      tool_calls: [...calls],
    },
    finish_reason: finishReason,
  };
}
