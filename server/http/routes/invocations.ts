/** `POST /invocations`: SageMaker's one path for every model, as vLLM has it; the body says what it asks. */
import { z } from "@hono/zod-openapi";
import type { App, ServerContext } from "../../context.ts";
import { ApiError } from "../../errors.ts";
import { post, validated } from "../endpoint.ts";
import { chatCompletionSchema, chatRequestSchema } from "../schema/chat.ts";
import { completionRequestSchema } from "../schema/completions.ts";
import { answerChat } from "./chat.ts";
import { answerCompletion } from "./completions.ts";

const invocationSchema = z.looseObject({}).openapi("InvocationRequest", {
  description: "A ChatCompletionRequest, which has `messages`, or a CompletionRequest (`prompt`).",
});

export function registerInvocations(app: App, context: ServerContext): void {
  post(app, {
    method: "post",
    path: "/invocations",
    tag: "completions",
    summary: "A chat or a text completion, by what the body has (SageMaker).",
    body: invocationSchema,
    ok: {
      description: "What /v1/chat/completions or /v1/completions answers.",
      json: z.union([chatCompletionSchema, z.looseObject({})]),
      events: z.looseObject({}),
    },
    errors: [429],
    scopes: ["infer"],
  }, (c, body) => {
    const note = (schema: z.ZodObject) => c.get("unknown").note(c.get("notes"), schema, body);
    if ("messages" in body) {
      note(chatRequestSchema);
      return answerChat(context, c, validated(chatRequestSchema, body));
    }
    if ("prompt" in body) {
      note(completionRequestSchema);
      return answerCompletion(context, c, validated(completionRequestSchema, body));
    }
    throw new ApiError(400, "The body needs 'messages' (a chat) or 'prompt' (a completion).", {
      code: "missing_required_parameter",
    });
  });
}
