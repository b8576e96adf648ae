/**
 * `POST /invocations`: SageMaker's one path for every model, as vLLM has it; the body says what it asks,
 * headers which adapter and which session.
 */
import { z } from "@hono/zod-openapi";
import type { App, AppContext, ServerContext } from "../../context.ts";
import { ApiError } from "../../errors.ts";
import { post, validated } from "../endpoint.ts";
import { answerChat } from "../routes/chat.ts";
import { answerCompletion } from "../routes/completions.ts";
import { chatCompletionSchema, chatRequestSchema } from "../schema/chat.ts";
import { completionRequestSchema } from "../schema/completions.ts";
import { Sessions } from "./sessions.ts";

const SESSION = "x-amzn-sagemaker-session-id";
const NEW_SESSION = "x-amzn-sagemaker-new-session-id";
const CLOSED_SESSION = "x-amzn-sagemaker-closed-session-id";
const ADAPTER = "x-amzn-sagemaker-adapter-identifier";

const invocationSchema = z.looseObject({}).openapi("InvocationRequest", {
  description:
    "A ChatCompletionRequest, which has `messages`, a CompletionRequest (`prompt`), or " +
    '`{"requestType": "NEW_SESSION"}` or `"CLOSE"`, which open and close a session.',
});
const sessionSchema = z.strictObject({ requestType: z.enum(["NEW_SESSION", "CLOSE"]) });

export function registerInvocations(app: App, context: ServerContext): void {
  const sessions = new Sessions();
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
    errors: [424, 429],
    scopes: ["infer"],
  }, (c, body) => {
    if ("requestType" in body) return turnSession(c, sessions, validated(sessionSchema, body));
    const session = c.req.header(SESSION);
    if (session !== undefined) checkSession(sessions.has(c.get("principal").tenant, session));
    return generate(context, c, adapted(c, body));
  });
}

/** The adapter that a header names is the model. */
function adapted(c: AppContext, body: z.output<typeof invocationSchema>) {
  const adapter = c.req.header(ADAPTER);
  return adapter === undefined ? body : { ...body, model: adapter };
}

function generate(
  context: ServerContext,
  c: AppContext,
  body: z.output<typeof invocationSchema>,
): Promise<Response> {
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
}

function turnSession(
  c: AppContext,
  sessions: Sessions,
  { requestType }: z.output<typeof sessionSchema>,
): Response {
  const { tenant } = c.get("principal");
  if (requestType === "NEW_SESSION") {
    const { id, expires } = sessions.open(tenant);
    c.header(NEW_SESSION, `${id}; Expires=${new Date(expires).toISOString()}`);
    return c.text("");
  }
  const id = c.req.header(SESSION);
  if (id === undefined) {
    // the status by which SageMaker's router forgets a session
    throw new ApiError(424, `An invalid session_id: send the header '${SESSION}'.`, {
      code: "invalid_session_id",
    });
  }
  checkSession(sessions.close(tenant, id));
  c.header(CLOSED_SESSION, id);
  return c.text("");
}

function checkSession(known: boolean): void {
  if (known) return;
  throw new ApiError(400, "session not found: it has expired, or was opened on another server.", {
    code: "session_not_found",
  });
}
