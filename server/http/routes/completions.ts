// deno-lint-ignore-file camelcase -- names of the wire format
/** `POST /v1/completions`: prompts as text or token ids, one or many, echoed or not. */
import { unixSeconds } from "../../../src/util/time.ts";
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import { isText, stringOf, type Text } from "../../../src/checkpoint/text/prompt.ts";
import { outputLimit } from "../../../src/checkpoint/sampling_defaults.ts";
import {
  type ChoiceWriter,
  chunkEvents,
  chunkOptions,
  collect,
  completionId,
  noteUsage,
  type Sample,
  streamAnswer,
} from "../../generate/answer.ts";
import {
  type App,
  type AppContext,
  askerOf,
  type ServedModel,
  type ServerContext,
} from "../../context.ts";
import { post } from "../endpoint.ts";
import { invalid } from "../../errors.ts";
import {
  completionLogprobs,
  echoedLogprobs,
  namesOf,
  namingTokens,
  promptLogprobs,
  type TokenNames,
  visibleLength,
} from "../../generate/logprobs.ts";
import { modelAsked } from "../../generate/adapter_id.ts";
import { metricsTold } from "../../generate/extras/request_metrics.ts";
import { resolveTarget } from "../../generate/model_name.ts";
import {
  checkLength,
  checkTokenIds,
  encodePrompt,
  kept,
  type PromptRoom,
  refuseStreamedPrompt,
  toSampling,
} from "../../generate/plan.ts";
import { type Run, type RunPlan, startRun } from "../../generate/run.ts";
import {
  type Completion,
  completionChunkSchema,
  type CompletionLogprobs,
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
  const model = await modelAsked(context, c.get("principal"), asked);
  const body = { ...namingTokens(context, asked), model };
  c.get("notes").model = body.model;
  const options = chunkOptions(context, body);
  refuseCombinations(body);
  const { tenant } = c.get("principal");
  const target = await resolveTarget(context, c.get("principal"), body.model, body.adapter);
  const run = await startRun(
    context,
    askerOf(c),
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
  const { tokenizer } = context.model;
  const told = new Told(tokenizer, body, run, echoedTexts(context.model, body, run.plan));
  if (body.stream) {
    const silent = !body.return_token_ids;
    const first = (index: number) => told.firstChunk(index);
    const end = () => metricsTold(context, run);
    const events = chunkEvents(head, run, options, told.writer(), { first, silent, end });
    return streamAnswer(context, c, run, events);
  }
  return await whole(c, run, (samples, usage): Completion => ({
    ...head,
    choices: samples.map((sample) => told.choice(sample)),
    usage,
    ...metricsTold(context, run),
  }));
}

function refuseCombinations(body: CompletionRequest): void {
  refuseStreamedPrompt(body);
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
  const prompts = await toPrompts(model, body, {
    ...{ param: "prompt", maxContext, maxTokens, caller },
    ...{ keep: body.truncate_prompt_tokens, cut: body.truncation_side },
  });
  for (const prompt of prompts) checkLength("prompt", prompt, maxContext, maxTokens);
  const logprobs = body.logprobs ?? undefined;
  const scored = promptScores(body);
  return {
    id: completionId("cmpl-"),
    kind: "completion",
    model: body.model,
    prompts,
    sampling: maxTokens === 0 && scored === undefined
      ? undefined
      : toSampling(body, { maxTokens, logprobs, model }),
    n: body.n ?? 1,
    priority: body.priority ?? 0,
    promptLogprobs: scored,
  };
}

/** How many alternatives are wanted of each prompt token, by either name. */
function promptScores({ echo, logprobs, prompt_logprobs: asked }: CompletionRequest) {
  const echoed = echo ? logprobs ?? undefined : undefined;
  if (echoed === undefined) return asked ?? undefined;
  return Math.max(echoed, asked ?? 0);
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
      prompts.push(kept(ids, room));
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
    const whole = isText(text) && typeof body.truncate_prompt_tokens !== "number";
    const echoed = whole ? stringOf(text) : model.tokenizer.decode(ids);
    return Array.from({ length: plan.n }, () => echoed);
  });
}

/** What is told of each sample, and of its prompt where that is asked for. */
class Told {
  readonly #tokenizer: Tokenizer;
  readonly #body: CompletionRequest;
  readonly #run: Run;
  readonly #echoes: readonly string[];
  readonly #names: TokenNames;

  constructor(
    tokenizer: Tokenizer,
    body: CompletionRequest,
    run: Run,
    echoes: readonly string[],
  ) {
    this.#tokenizer = tokenizer;
    this.#body = body;
    this.#run = run;
    this.#echoes = echoes;
    this.#names = namesOf(body);
  }

  /** The chunk of an echoed prompt, or of one whose ids are wanted. */
  firstChunk(index: number): string | undefined {
    const echo = this.#echoes[index];
    if (echo === undefined && !this.#body.return_token_ids) return undefined;
    return JSON.stringify({
      ...{ index, text: echo ?? "", logprobs: this.#echoed(index) ?? null, finish_reason: null },
      ...(this.#body.return_token_ids &&
        { token_ids: [], prompt_token_ids: this.#prompt(index) }),
    });
  }

  writer(): ChoiceWriter {
    const offsets = new Map<number, number>();
    return ({ index, text, tokens, logprobs }) => {
      const ids = this.#body.return_token_ids ? `,"token_ids":${JSON.stringify(tokens)}` : "";
      if (logprobs === undefined) return `"text":${JSON.stringify(text)},"logprobs":null${ids}`;
      let offset = offsets.get(index) ?? this.#echoedLength(index);
      const arrays = completionLogprobs(this.#tokenizer, logprobs, offset, this.#names);
      for (const { token } of logprobs) offset += visibleLength(this.#tokenizer, token);
      offsets.set(index, offset);
      return `"text":${JSON.stringify(text)},"logprobs":${JSON.stringify(arrays)}${ids}`;
    };
  }

  choice({ index, text, tokens, logprobs, finishReason, stopReason }: Sample) {
    const { prompt_logprobs: asked, return_token_ids: ids } = this.#body;
    const scored = this.#run.promptLogprobs(this.#promptOf(index));
    return {
      index,
      text: (this.#echoes[index] ?? "") + text,
      logprobs: this.#joined(index, logprobs),
      finish_reason: finishReason,
      stop_reason: stopReason ?? null,
      prompt_logprobs: typeof asked === "number" && scored !== undefined
        ? promptLogprobs(this.#tokenizer, scored, asked)
        : null,
      token_ids: ids ? [...tokens] : null,
      prompt_token_ids: ids ? [...this.#prompt(index)] : null,
    };
  }

  /** The prompt's and then the sample's, where log probabilities are asked for. */
  #joined(index: number, logprobs: Sample["logprobs"]): CompletionLogprobs | null {
    const echoed = this.#echoed(index);
    if (echoed === undefined && logprobs === undefined) return null;
    const offset = this.#echoedLength(index);
    const own = completionLogprobs(this.#tokenizer, logprobs ?? [], offset, this.#names);
    if (echoed === undefined) return own;
    return {
      tokens: [...echoed.tokens, ...own.tokens],
      token_logprobs: [...echoed.token_logprobs, ...own.token_logprobs],
      top_logprobs: [...echoed.top_logprobs, ...own.top_logprobs],
      text_offset: [...echoed.text_offset, ...own.text_offset],
    };
  }

  #echoed(index: number): CompletionLogprobs | undefined {
    const { echo, logprobs } = this.#body;
    const scored = this.#run.promptLogprobs(this.#promptOf(index));
    if (!echo || typeof logprobs !== "number" || scored === undefined) return undefined;
    const cut = scored.map((one) => ({ ...one, top: one.top.slice(0, logprobs) }));
    return echoedLogprobs(this.#tokenizer, this.#prompt(index), cut, this.#names);
  }

  #echoedLength(index: number): number {
    if (this.#echoed(index) === undefined) return 0;
    return this.#prompt(index).reduce(
      (sum, token) => sum + visibleLength(this.#tokenizer, token),
      0,
    );
  }

  #prompt(index: number): readonly number[] {
    return this.#run.plan.prompts[this.#promptOf(index)] ?? [];
  }

  #promptOf(index: number): number {
    return Math.floor(index / this.#run.plan.n);
  }
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
