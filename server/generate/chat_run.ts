/** Starts a chat, whichever API asked for it: its model, tools and prompt, as one run of the engine. */
import { outputLimit } from "../../src/checkpoint/sampling_defaults.ts";
import type { Asker, ServerContext } from "../context.ts";
import { invalid } from "../errors.ts";
import type { ChatRequest } from "../http/schema/chat.ts";
import { modelAsked } from "./adapter_id.ts";
import { resolveTarget, type Target } from "./model_name.ts";
import { checkLength, encodeChat, toSampling } from "./plan.ts";
import {
  behindReasoning,
  continued,
  reasonedRun,
  reasoningBudget,
  reasoningOf,
} from "./reasoning.ts";
import { type Run, type RunPlan, startRun } from "./run.ts";
import type { TextCaller } from "./text_turns.ts";
import { type ToolUse, toolUse } from "./tools.ts";

/** A chat that runs. */
export interface ChatRun extends Pick<ToolUse, "calling"> {
  readonly run: Run;
  /** The name that it was asked by. */
  readonly model: string;
  readonly target: Target;
}

/**
 * Starts a chat for whoever asks, and waits for its first delta.
 * @param id of the answer
 * @throws {ApiError} where there will be no answer
 */
export async function startChat(
  context: ServerContext,
  asker: Asker,
  body: ChatRequest,
  id: string,
): Promise<ChatRun> {
  const { notes, principal } = asker;
  const model = await modelAsked(context, principal, body);
  notes.model = model;
  const { tenant } = principal;
  const use = toolUse(context.model, body);
  const target = await resolveTarget(context, principal, model, body.adapter);
  const run = await startRun(
    context,
    asker,
    target,
    async (signal) => ({
      ...await planChat(context, body, use, { tenant, signal }),
      id,
      model,
    }),
  );
  const { reasoning } = run.plan;
  return {
    ...{ model, target, calling: use.calling },
    run: reasoning === undefined ? run : reasonedRun(run, reasoning),
  };
}

/**
 * The ids of a chat's prompt.
 * @throws {ApiError} 400 for a chat that cannot be
 */
export async function chatPrompt(
  { model, engine: { maxContext } }: ServerContext,
  body: ChatRequest,
  { shown, calling }: ToolUse,
  room: { readonly maxTokens: number | undefined; readonly caller: TextCaller },
): Promise<readonly number[]> {
  const chat = await encodeChat(model, { ...body, tools: shown }, {
    ...{ maxContext, ...room },
    ...{ keep: body.truncate_prompt_tokens, cut: body.truncation_side },
  });
  return calling?.opener === undefined ? chat : [...chat, calling.opener.id];
}

async function planChat(
  context: ServerContext,
  body: ChatRequest,
  use: ToolUse,
  caller: TextCaller,
): Promise<Omit<RunPlan, "id" | "model">> {
  const { model, engine: { maxContext } } = context;
  const asked = body.max_completion_tokens ?? body.max_tokens ?? undefined;
  const maxTokens = outputLimit(asked, model.sampling);
  const last = continued(body);
  const prompt = await chatPrompt(context, body, use, { maxTokens, caller });
  checkLength("messages", prompt, maxContext, maxTokens);
  const logprobs = wantedLogprobs(body);
  const { calling } = use;
  const reasoning = reasoningOf(model, body, calling, { prompt, last });
  const bound = reasoningBudget(model, body, reasoning);
  const sampling = {
    ...toSampling(body, { maxTokens, logprobs, model, calling }),
    ...(bound && { reasoningBudget: bound }),
  };
  return {
    kind: "chat",
    prompts: [prompt],
    sampling: reasoning === undefined ? sampling : behindReasoning(sampling, reasoning, calling),
    reasoning,
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
