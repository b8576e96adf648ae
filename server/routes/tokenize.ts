/** `POST /tokenize` and `/detokenize`, in vLLM's shapes. */
import type { ServerContext } from "../context.ts";
import { type App, post } from "../endpoint.ts";
import { invalid, modelNotFound } from "../errors.ts";
import { findAdapter } from "../model_name.ts";
import { checkTokenIds, encodeChat } from "../prompt.ts";
import type { Principal } from "../principal.ts";
import {
  detokenizeRequestSchema,
  detokenizeResponseSchema,
  type TokenizeRequest,
  tokenizeRequestSchema,
  tokenizeResponseSchema,
} from "../schema/admin.ts";

export function registerTokenize(app: App, context: ServerContext): void {
  const { model, engine } = context;
  post(app, {
    method: "post",
    path: "/tokenize",
    tag: "tokens",
    summary: "Text or a conversation as token ids.",
    body: tokenizeRequestSchema,
    ok: { description: "The ids.", json: tokenizeResponseSchema },
    scopes: ["infer"],
  }, async (c, body) => {
    await checkModel(context, c.get("principal"), body.model);
    const tokens = encode(context, body);
    return c.json({
      count: tokens.length,
      max_model_len: engine.maxContext,
      tokens,
      token_strs: body.return_token_strs ? tokens.map((id) => model.tokenizer.tokenText(id)) : null,
    });
  });
  post(app, {
    method: "post",
    path: "/detokenize",
    tag: "tokens",
    summary: "Token ids as text.",
    body: detokenizeRequestSchema,
    ok: { description: "The text.", json: detokenizeResponseSchema },
    scopes: ["infer"],
  }, async (c, body) => {
    await checkModel(context, c.get("principal"), body.model);
    checkTokenIds("tokens", body.tokens, model.vocabSize);
    return c.json({ prompt: model.tokenizer.decode(body.tokens, { skipSpecialTokens: false }) });
  });
}

function encode({ model }: ServerContext, body: TokenizeRequest): number[] {
  const { prompt, messages } = body;
  if ((prompt === undefined) === (messages === undefined)) {
    throw invalid("prompt", "Exactly one of 'prompt' and 'messages' is required.");
  }
  if (messages !== undefined) return encodeChat(model, { ...body, messages });
  return model.tokenizer.encode(prompt ?? "", {
    addSpecialTokens: body.add_special_tokens ?? true,
  });
}

async function checkModel(
  context: ServerContext,
  principal: Principal,
  name: string | null | undefined,
): Promise<void> {
  if (name === undefined || name === null || name === context.model.id) return;
  const entry = await findAdapter(context.adapters, principal, name);
  if (entry === undefined) throw modelNotFound(name);
}
