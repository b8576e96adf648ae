/**
 * `POST /v1/responses` and `/v1/responses/input_tokens`: OpenAI's Responses API over what chat
 * completions run on.
 */
import type { App, AppContext, ServerContext } from "../../context.ts";
import { completionId, noteUsage, streamAnswer } from "../../generate/answer.ts";
import { chatPrompt, startChat } from "../../generate/chat_run.ts";
import { toolUse } from "../../generate/tools.ts";
import { post } from "../endpoint.ts";
import { noteVerbosity } from "../verbosity.ts";
import { checkModel, counted } from "../routes/tokenize.ts";
import { begunResponse } from "./answer.ts";
import { countSchema, responseEventSchema, responseSchema } from "./answer_schema.ts";
import { readItems } from "./input.ts";
import { itemsText, KeptResponses } from "./kept.ts";
import { ResponseEvents, type ResponseRun, wholeResponse } from "./run.ts";
import {
  type CountRequest,
  countRequestSchema,
  LOGPROBS,
  type ResponseRequest,
  responseRequestSchema,
} from "./schema.ts";
import { registerStored } from "./stored_routes.ts";
import { toChat, toPrompt } from "./to_chat.ts";

export function registerResponses(app: App, context: ServerContext): void {
  const common = {
    method: "post",
    tag: "responses",
    lenient: true,
    errors: [429],
    scopes: ["infer"],
  } as const;
  post(app, {
    ...common,
    path: "/v1/responses",
    summary: "Answers items, or goes on from a stored response.",
    body: responseRequestSchema,
    ok: {
      description: "The response, or OpenAI's events where `stream` is true.",
      json: responseSchema,
      events: responseEventSchema,
    },
  }, (c, body) => answer(context, c, body));
  post(app, {
    ...common,
    path: "/v1/responses/input_tokens",
    summary: "How many tokens a response's prompt would have.",
    body: countRequestSchema,
    ok: { description: "The count.", json: countSchema },
  }, (c, body) => countTokens(context, c, body));
  if (context.responses !== undefined) registerStored(app, context);
}

async function answer(
  context: ServerContext,
  c: AppContext,
  body: ResponseRequest,
): Promise<Response> {
  const response = await start(context, c, body);
  const { run } = response.chat;
  if (body.stream) {
    const events = new ResponseEvents(response);
    const iterator = events[Symbol.asyncIterator]();
    return streamAnswer(context, c, run, iterator, (failure) => events.failed(failure));
  }
  try {
    const whole = await wholeResponse(response);
    noteUsage(c, run.usage());
    return c.json(whole);
  } finally {
    run.close();
  }
}

async function start(
  context: ServerContext,
  c: AppContext,
  body: ResponseRequest,
): Promise<ResponseRun> {
  noteVerbosity(c, "text.verbosity", body.text?.verbosity);
  const id = completionId("resp_");
  const kept = KeptResponses.of(context, c);
  const { earlier, given, items } = await readItems(kept, body, id);
  const request = toChat(body, items);
  const store = kept !== undefined && body.store !== false;
  const keeps = store || earlier.conversation !== undefined;
  if (keeps) await kept?.checkRoom(itemsText(given).length);
  const chat = await startChat(context, c, request, id);
  const { sampling, tokenizer } = context.model;
  return {
    ...{ chat, tokenizer },
    begun: begunResponse(body, { id, model: chat.model, store, sampling }),
    logprobs: body.include?.includes(LOGPROBS) ?? false,
    padded: body.stream_options?.include_obfuscation ?? false,
    keep: async (response) => {
      if (keeps) await kept?.add({ response, given }, earlier);
    },
  };
}

async function countTokens(
  context: ServerContext,
  c: AppContext,
  body: CountRequest,
): Promise<Response> {
  noteVerbosity(c, "text.verbosity", body.text?.verbosity);
  await checkModel(context, c.get("principal"), body.model);
  const { items } = await readItems(KeptResponses.of(context, c), body, completionId("resp_"));
  const chat = toPrompt(body, items);
  const use = toolUse(context.model, chat);
  const caller = { tenant: c.get("principal").tenant, signal: c.req.raw.signal };
  const room = { maxTokens: undefined, caller };
  const ids = await counted(context, c, () => chatPrompt(context, chat, use, room));
  return c.json({ object: "response.input_tokens", input_tokens: ids.length });
}
