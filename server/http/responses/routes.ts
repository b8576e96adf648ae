/**
 * `POST /v1/responses` and `/v1/responses/input_tokens`: OpenAI's Responses API over what chat
 * completions run on.
 */
import { type App, type AppContext, askerOf, type ServerContext } from "../../context.ts";
import type { ApiError } from "../../errors.ts";
import { completionId, noteUsage, streamAnswer } from "../../generate/answer.ts";
import { chatPrompt, startChat } from "../../generate/chat_run.ts";
import { toolUse } from "../../generate/tools.ts";
import { post } from "../endpoint.ts";
import { noteEffort, noteVerbosity } from "../no_effect.ts";
import { checkModel, counted } from "../routes/tokenize.ts";
import { failedResponse } from "./answer.ts";
import { registerCompact } from "./compact.ts";
import { countSchema, responseEventSchema, responseSchema } from "./answer_schema.ts";
import { responseError } from "./errors.ts";
import { BackgroundResponses } from "./background.ts";
import { readItems } from "./input.ts";
import { KeptResponses } from "./stored/kept.ts";
import { ResponseEvents, wholeResponse } from "./run.ts";
import {
  type CountRequest,
  countRequestSchema,
  type ResponseRequest,
  responseRequestSchema,
} from "./schema.ts";
import { askedResponse } from "./start.ts";
import { registerStored } from "./stored/routes.ts";
import { streamOf } from "./stored/replay.ts";
import { toPrompt } from "./to_chat.ts";

export function registerResponses(app: App, context: ServerContext): void {
  const background = new BackgroundResponses(context);
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
  }, (c, body) => answer(context, background, c, body));
  post(app, {
    ...common,
    path: "/v1/responses/input_tokens",
    summary: "How many tokens a response's prompt would have.",
    body: countRequestSchema,
    ok: { description: "The count.", json: countSchema },
  }, (c, body) => countTokens(context, c, body));
  if (context.responses === undefined) return;
  registerCompact(app, context);
  registerStored(app, context, background);
}

async function answer(
  context: ServerContext,
  background: BackgroundResponses,
  c: AppContext,
  body: ResponseRequest,
): Promise<Response> {
  const asked = await askedResponse(context, c, body);
  const { begun, kept, request } = asked;
  if (body.background && kept !== undefined) {
    const log = await background.start(c, kept, asked);
    const padded = body.stream_options?.include_obfuscation ?? false;
    return body.stream ? streamOf(log.read({ after: -1, padded })) : c.json(begun);
  }
  const chat = await startChat(context, askerOf(c), request, begun.id);
  const response = asked.running(Promise.resolve(chat));
  if (body.stream) {
    const events = new ResponseEvents(response);
    const iterator = events[Symbol.asyncIterator]();
    const failed = (failure: ApiError) =>
      events.failed(failedResponse(begun, responseError(failure)));
    return streamAnswer(context, c, chat.run, iterator, failed);
  }
  try {
    const whole = await wholeResponse(response);
    noteUsage(c, chat.run.usage());
    return c.json(whole);
  } finally {
    chat.run.close();
  }
}

async function countTokens(
  context: ServerContext,
  c: AppContext,
  body: CountRequest,
): Promise<Response> {
  noteVerbosity(c, "text.verbosity", body.text?.verbosity);
  noteEffort(c, context.model, "reasoning.effort", body.reasoning?.effort);
  await checkModel(context, c.get("principal"), body.model);
  const { items } = await readItems(KeptResponses.of(context, c), body, completionId("resp_"));
  const chat = toPrompt(body, items);
  const use = toolUse(context.model, chat);
  const caller = { tenant: c.get("principal").tenant, signal: c.req.raw.signal };
  const room = { maxTokens: undefined, caller };
  const ids = await counted(context, c, () => chatPrompt(context, chat, use, room));
  return c.json({ object: "response.input_tokens", input_tokens: ids.length });
}
