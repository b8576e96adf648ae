/** `POST /tokenize` and `/detokenize`, and `GET /tokenizer_info`, in vLLM's shapes and llama.cpp's. */
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import type { App, AppContext, ServerContext } from "../../context.ts";
import { get, post } from "../endpoint.ts";
import { invalid, modelNotFound } from "../../errors.ts";
import { findCore, isBase } from "../../generate/model_name.ts";
import { checkTokenIds, encodeChat, encodePrompt } from "../../generate/plan.ts";
import type { Principal } from "../../access/access.ts";
import {
  detokenizeRequestSchema,
  detokenizeResponseSchema,
  type TokenizeRequest,
  tokenizeRequestSchema,
  tokenizeResponseSchema,
  tokenizerInfoSchema,
} from "../schema/admin.ts";
import type { TextCaller } from "../../generate/text_turns.ts";

export function registerTokenize(app: App, context: ServerContext): void {
  const { model, engine } = context;
  const spelled = (id: number | undefined) =>
    id === undefined ? null : model.tokenizer.tokenText(id);
  get(app, {
    method: "get",
    path: "/tokenizer_info",
    tag: "tokens",
    summary: "The special tokens and the chat template: what a client needs that encodes here.",
    ok: { description: "The tokenizer.", json: tokenizerInfoSchema },
    scopes: ["infer"],
  }, (c) => {
    const eos = spelled(model.eosTokenIds[0]);
    return c.json({
      tokenizer_class: "PreTrainedTokenizerFast",
      vocab_size: model.vocabSize,
      model_max_length: engine.maxContext,
      bos_token: spelled(model.bosTokenId),
      eos_token: eos,
      pad_token: eos,
      chat_template: model.chatTemplate?.source ?? null,
    });
  });
  post(app, {
    method: "post",
    path: "/tokenize",
    tag: "tokens",
    summary: "Text or a conversation as token ids.",
    body: tokenizeRequestSchema,
    lenient: true,
    ok: { description: "The ids.", json: tokenizeResponseSchema },
    errors: [429],
    scopes: ["infer"],
  }, async (c, body) => {
    await checkModel(context, c.get("principal"), body.model);
    const caller = { tenant: c.get("principal").tenant, signal: c.req.raw.signal };
    const tokens = await counted(context, c, () => encode(context, body, caller));
    return c.json({
      count: tokens.length,
      max_model_len: engine.maxContext,
      tokens: body.with_pieces ? tokens.map((id) => piece(model.tokenizer, id)) : tokens,
      token_strs: body.return_token_strs ? tokens.map((id) => model.tokenizer.tokenText(id)) : null,
    });
  });
  post(app, {
    method: "post",
    path: "/detokenize",
    tag: "tokens",
    summary: "Token ids as text.",
    body: detokenizeRequestSchema,
    lenient: true,
    ok: { description: "The text.", json: detokenizeResponseSchema },
    errors: [429],
    scopes: ["infer"],
  }, async (c, body) => {
    await checkModel(context, c.get("principal"), body.model);
    checkCount(body.tokens.length, engine.maxContext);
    checkTokenIds("tokens", body.tokens, model.vocabSize);
    const { tokenizer } = model;
    const prompt = await counted(
      context,
      c,
      () => Promise.resolve(tokenizer.decode(body.tokens, { skipSpecialTokens: false })),
    );
    return c.json({ prompt, content: prompt });
  });
}

/** A token with its text, or with its bytes where these are no text by themselves. */
function piece(tokenizer: Tokenizer, id: number): { id: number; piece: string | number[] } {
  if (tokenizer.isSpecial(id)) return { id, piece: tokenizer.tokenText(id) };
  const bytes = tokenizer.tokenBytes(id);
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return { id, piece: text };
  } catch {
    return { id, piece: [...bytes] };
  }
}

/** @throws {ApiError} 400 for more ids than any text of this model has: they are decoded at once */
function checkCount(count: number, maxContext: number): void {
  if (count <= maxContext) return;
  throw invalid(
    "tokens",
    `Invalid 'tokens': array too long. Expected at most ${maxContext} items, this model's maximum ` +
      `context length, but got ${count} instead. Send them in parts.`,
    "array_above_max_length",
  );
}

/**
 * Counts a request against its tenant's limit a minute. It runs no tokens, so none are counted,
 * and it has no usage record.
 * @throws {ApiError} 429 where the tenant has used up its requests
 */
export async function counted<T>(
  { metering }: ServerContext,
  c: AppContext,
  work: () => Promise<T>,
): Promise<T> {
  const metered = await metering?.count(c.get("principal"), c.get("requestId"));
  try {
    return await work();
  } finally {
    metered?.abandon(undefined);
    c.get("notes").headers = metered?.headers();
  }
}

async function encode(
  { model, engine: { maxContext } }: ServerContext,
  body: TokenizeRequest,
  caller: TextCaller,
): Promise<readonly number[]> {
  const { prompt, messages, content } = body;
  const given = [prompt, messages, content].filter((one) => one !== undefined);
  if (given.length !== 1) {
    throw invalid("prompt", "Exactly one of 'prompt', 'messages' and 'content' is required.");
  }
  const room = { maxContext, maxTokens: undefined, caller };
  if (messages !== undefined) return await encodeChat(model, { ...body, messages }, room);
  const special = content === undefined
    ? body.add_special_tokens ?? true
    : body.add_special ?? false;
  return await encodePrompt(model, content ?? prompt ?? "", special, { ...room, param: "prompt" });
}

/** @throws {ApiError} 404 for a name of nothing that the principal may use */
export async function checkModel(
  context: ServerContext,
  principal: Principal,
  name: string | null | undefined,
): Promise<void> {
  if (name === undefined || name === null || isBase(context.model, name)) return;
  const entry = await findCore(context.adapters, principal, name);
  if (entry === undefined) throw modelNotFound(name);
}
