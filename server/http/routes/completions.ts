// deno-lint-ignore-file camelcase -- names of the wire format
/** `POST /v1/completions`: prompts as text or token ids, one or many, echoed or not. */
import { unixSeconds } from "../../../src/util/time.ts";
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import { isText, stringOf, type Text } from "../../../src/checkpoint/text/prompt.ts";
import { outputLimit } from "../../../src/checkpoint/sampling_defaults.ts";
import type { GenerationDelta } from "../../../src/engine/request/request.ts";
import {
  chunkEvents,
  collect,
  completionId,
  noteUsage,
  type Sample,
  streamAnswer,
  usageWanted,
} from "../../generate/answer.ts";
import type { App, AppContext, ServedModel, ServerContext } from "../../context.ts";
import { post } from "../endpoint.ts";
import { invalid } from "../../errors.ts";
import { completionLogprobs, visibleLength } from "../../generate/logprobs.ts";
import { baseName, resolveTarget } from "../../generate/model_name.ts";
import {
  checkLength,
  checkTokenIds,
  encodePrompt,
  type PromptRoom,
  toSampling,
} from "../../generate/plan.ts";
import { type Run, type RunPlan, startRun } from "../../generate/run.ts";
import {
  type Completion,
  completionChunkSchema,
  type CompletionRequest,
  completionRequestSchema,
  completionSchema,
} from "../schema/completions.ts";
import type { TextCaller } from "../../generate/text_turns.ts";

/** OpenAI's and vLLM's default. */
const DEFAULT_MAX_TOKENS = 16;

export function registerCompletions(app: App, context: ServerContext): void {
  post(app, {
    method: "post",
    path: "/v1/completions",
    tag: "completions",
    summary: "Continues one or more prompts.",
    body: completionRequestSchema,
    lenient: true,
    ok: {
      description: "The completion, or CompletionChunk events where `stream` is true.",
      json: completionSchema,
      events: completionChunkSchema,
    },
    errors: [429],
    scopes: ["infer"],
  }, (c, body) => answerCompletion(context, c, body));
}

type NamedRequest = CompletionRequest & { readonly model: string };

/**
 * Continues prompts for the request's principal.
 * @throws {ApiError} where there will be no answer
 */
export async function answerCompletion(
  context: ServerContext,
  c: AppContext,
  asked: CompletionRequest,
): Promise<Response> {
  const body = { ...asked, model: asked.model ?? baseName(context.model) };
  c.get("notes").model = body.model;
  const usage = usageWanted(body);
  refuseCombinations(body);
  const { tenant } = c.get("principal");
  const target = await resolveTarget(context, c.get("principal"), body.model, body.adapter);
  const run = await startRun(
    context,
    c,
    target,
    (signal) => planCompletion(context, body, { tenant, signal }),
  );
  const head = {
    id: run.plan.id,
    object: "text_completion" as const,
    created: unixSeconds(),
    model: body.model,
    system_fingerprint: target.fingerprint,
  };
  const echoes = echoedTexts(context.model, body, run.plan);
  const { tokenizer } = context.model;
  if (body.stream) {
    const events = chunkEvents(head, run, usage, choiceWriter(tokenizer), echoes.map(echoChoice));
    return streamAnswer(context, c, run, events);
  }
  return await whole(c, run, (samples, usage): Completion => ({
    ...head,
    choices: samples.map((sample) => toChoice(tokenizer, sample, echoes[sample.index] ?? "")),
    usage,
  }));
}

function refuseCombinations(body: CompletionRequest): void {
  if (body.echo && typeof body.logprobs === "number") {
    throw invalid(
      "logprobs",
      "Unsupported combination: 'echo' with 'logprobs' would need log probabilities of the " +
        "prompt, which this server does not compute.",
      "unsupported_parameter",
    );
  }
  if (body.best_of && body.best_of !== (body.n ?? 1)) {
    throw invalid(
      "best_of",
      `Unsupported value: 'best_of' (${body.best_of}) must equal 'n' (${body.n ?? 1}); ` +
        "this server does not choose among samples.",
      "unsupported_parameter",
    );
  }
}

async function planCompletion(
  { model, engine: { maxContext } }: ServerContext,
  body: NamedRequest,
  caller: TextCaller,
): Promise<RunPlan> {
  const maxTokens = outputLimit(body.max_tokens ?? DEFAULT_MAX_TOKENS, model.sampling);
  const prompts = await toPrompts(model, body, { param: "prompt", maxContext, maxTokens, caller });
  for (const prompt of prompts) checkLength("prompt", prompt, maxContext, maxTokens);
  const logprobs = body.logprobs ?? undefined;
  return {
    id: completionId("cmpl"),
    kind: "completion",
    model: body.model,
    prompts,
    sampling: maxTokens === 0 ? undefined : toSampling(body, { maxTokens, logprobs, model }),
    n: body.n ?? 1,
    priority: body.priority ?? 0,
  };
}

async function toPrompts(
  model: ServedModel,
  { prompt, echo, add_special_tokens: add }: CompletionRequest,
  room: PromptRoom,
): Promise<(readonly number[])[]> {
  const list = isText(prompt) || isIds(prompt) ? [prompt] : prompt;
  const prompts: (readonly number[])[] = [];
  for (const [index, ids] of list.entries()) {
    if (isText(ids)) {
      // bytes are gone once they are read
      const text = echo ? ids.slice() : ids;
      prompts.push(await encodePrompt(model, text, add ?? true, room));
    } else {
      checkTokenIds(list.length === 1 ? "prompt" : `prompt[${index}]`, ids, model.vocabSize);
      prompts.push(ids);
    }
  }
  return prompts;
}

function isIds(prompt: Exclude<CompletionRequest["prompt"], Text>): prompt is number[] {
  return typeof prompt[0] === "number";
}

/** The text that `echo` puts before each sample, by sample index; empty without `echo`. */
function echoedTexts(model: ServedModel, body: CompletionRequest, plan: RunPlan): string[] {
  if (!body.echo) return [];
  const given = isText(body.prompt) ? [body.prompt] : body.prompt;
  return plan.prompts.flatMap((ids, index) => {
    const text = given[index];
    const echoed = isText(text) ? stringOf(text) : model.tokenizer.decode(ids);
    return Array.from({ length: plan.n }, () => echoed);
  });
}

function echoChoice(text: string, index: number): string {
  return `{"index":${index},"text":${JSON.stringify(text)},"logprobs":null,"finish_reason":null}`;
}

function choiceWriter(tokenizer: Tokenizer): (delta: GenerationDelta) => string {
  const offsets = new Map<number, number>();
  return ({ index, text, logprobs }) => {
    if (logprobs === undefined) return `"text":${JSON.stringify(text)},"logprobs":null`;
    let offset = offsets.get(index) ?? 0;
    const arrays = completionLogprobs(tokenizer, logprobs, offset);
    for (const { token } of logprobs) offset += visibleLength(tokenizer, token);
    offsets.set(index, offset);
    return `"text":${JSON.stringify(text)},"logprobs":${JSON.stringify(arrays)}`;
  };
}

async function whole(
  c: AppContext,
  run: Run,
  shape: (samples: readonly Sample[], usage: Completion["usage"]) => Completion,
): Promise<Response> {
  try {
    const samples = await collect(run, run.plan.prompts.length * run.plan.n);
    await run.complete();
    noteUsage(c, run.usage());
    return c.json(shape(samples, run.usage()));
  } finally {
    run.close();
  }
}

function toChoice(tokenizer: Tokenizer, sample: Sample, echo: string) {
  return {
    index: sample.index,
    text: echo + sample.text,
    logprobs: sample.logprobs === undefined
      ? null
      : completionLogprobs(tokenizer, sample.logprobs, 0),
    finish_reason: sample.finishReason,
    stop_reason: sample.stopReason ?? null,
  };
}
