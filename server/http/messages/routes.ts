/**
 * `POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's Messages API over what chat
 * completions run on.
 */
import { type App, type AppContext, askerOf, type ServerContext } from "../../context.ts";
import type { ApiError } from "../../errors.ts";
import { collect, completionId, noteUsage, streamAnswer } from "../../generate/answer.ts";
import { withCalls } from "../../generate/call_answer.ts";
import { chatPrompt, type ChatRun, startChat } from "../../generate/chat_run.ts";
import { toolUse } from "../../generate/tools.ts";
import { post } from "../endpoint.ts";
import { noteEffort } from "../no_effect.ts";
import { checkModel, counted } from "../routes/tokenize.ts";
import { toContent, toUsage } from "./answer.ts";
import { messageError } from "./errors.ts";
import {
  type CountRequest,
  countRequestSchema,
  countSchema,
  type Message,
  messageErrorSchema,
  messageEventSchema,
  type MessageRequest,
  messageRequestSchema,
  messageSchema,
} from "./schema.ts";
import { errorEvent, messageEvents } from "./stream.ts";
import { toChat, toPrompt } from "./to_chat.ts";

export function registerMessages(app: App, context: ServerContext): void {
  const common = {
    method: "post",
    tag: "messages",
    lenient: true,
    errors: [429],
    error: messageErrorSchema,
    scopes: ["infer"],
  } as const;
  post(app, {
    ...common,
    path: "/v1/messages",
    summary: "Answers a conversation (Anthropic's Messages API).",
    body: messageRequestSchema,
    ok: {
      description: "The message, or Anthropic's events where `stream` is true.",
      json: messageSchema,
      events: messageEventSchema,
    },
  }, (c, body) => answerMessage(context, c, body));
  post(app, {
    ...common,
    path: "/v1/messages/count_tokens",
    summary: "How many tokens a conversation has as a prompt (Anthropic).",
    body: countRequestSchema,
    ok: { description: "The count.", json: countSchema },
  }, (c, body) => countTokens(context, c, body));
}

async function answerMessage(
  context: ServerContext,
  c: AppContext,
  body: MessageRequest,
): Promise<Response> {
  const asked = toChat(withThinking(context, c, body));
  const chat = await startChat(context, askerOf(c), asked, completionId("msg_"));
  if (!body.stream) return await whole(c, chat);
  const { run, model, calling } = chat;
  const deltas = calling === undefined ? run : withCalls(run, calling);
  const failed = (failure: ApiError) => errorEvent(messageError(failure, c.get("requestId")));
  const events = messageEvents({ id: run.plan.id, model }, run, deltas);
  return streamAnswer(context, c, run, events, failed);
}

/**
 * A request without what it asks for in vain of thinking.
 * @throws {ApiError} 400 where it does, and the server is strict
 */
function withThinking<Request extends CountRequest>(
  { model }: ServerContext,
  c: AppContext,
  body: Request,
): Request {
  noteEffort(c, model, "output_config.effort", body.output_config?.effort);
  const { type = "disabled" } = body.thinking ?? {};
  if (type === "disabled" || model.reasoning !== undefined) return body;
  c.get("unknown").leaveOut(c.get("notes"), "thinking.type", "disabled");
  return { ...body, thinking: undefined };
}

async function whole(c: AppContext, { run, model, calling }: ChatRun): Promise<Response> {
  try {
    const [sample] = await collect(run, 1);
    if (sample === undefined) throw new RangeError("internal: a run without a sample");
    await run.complete();
    const usage = run.usage();
    noteUsage(c, usage);
    const message: Message = {
      id: run.plan.id,
      type: "message",
      role: "assistant",
      model,
      ...toContent(sample, calling),
      usage: toUsage(usage),
    };
    return c.json(message);
  } finally {
    run.close();
  }
}

async function countTokens(
  context: ServerContext,
  c: AppContext,
  body: CountRequest,
): Promise<Response> {
  await checkModel(context, c.get("principal"), body.model);
  const chat = toPrompt(withThinking(context, c, body));
  const use = toolUse(context.model, chat);
  const caller = { tenant: c.get("principal").tenant, signal: c.req.raw.signal };
  const room = { maxTokens: undefined, caller };
  const ids = await counted(context, c, () => chatPrompt(context, chat, use, room));
  return c.json({ input_tokens: ids.length });
}
