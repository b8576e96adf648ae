// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * `POST /v1/responses/compact`: a conversation in, and one window out that stands for it: the user's
 * messages, and the model's own summary of all, sealed so that only this tenant can send it back.
 */
import { unixSeconds } from "../../../src/util/time.ts";
import { type App, type AppContext, askerOf, type ServerContext } from "../../context.ts";
import { collect, completionId, noteUsage } from "../../generate/answer.ts";
import { startChat } from "../../generate/chat_run.ts";
import { post } from "../endpoint.ts";
import { checkModel } from "../routes/tokenize.ts";
import type { ChatRequest } from "../schema/chat.ts";
import type { UsageBody } from "../schema/common.ts";
import { endOf, toUsage } from "./answer.ts";
import { compactedSchema } from "./answer_schema.ts";
import { readItems } from "./input.ts";
import { type Item, itemId } from "./items.ts";
import { type CompactRequest, compactRequestSchema } from "./schema.ts";
import { KeptResponses } from "./stored/kept.ts";
import { itemsText } from "./stored/rows.ts";
import { toPrompt } from "./to_chat.ts";

const ASKED = "Summarise the conversation above so that it can go on from the summary alone: all " +
  "facts, names, numbers and open tasks. Write the summary only.";
/** Tokens of a summary, at most: so many, and no more than this share of the context. */
const MOST_TOKENS = 512;
const MOST_SHARE = 1 / 8;

const NOTHING: UsageBody = {
  ...{ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 },
  prompt_tokens_details: { cached_tokens: 0 },
};

/** For a server that keeps responses. */
export function registerCompact(app: App, context: ServerContext): void {
  post(app, {
    method: "post",
    path: "/v1/responses/compact",
    tag: "responses",
    lenient: true,
    errors: [429],
    scopes: ["infer"],
    summary:
      "Compacts a conversation: its user's messages, and a summary that stands for the rest.",
    body: compactRequestSchema,
    ok: { description: "What to go on with, as `input`.", json: compactedSchema },
  }, (c, body) => compact(context, c, body));
}

async function compact(
  context: ServerContext,
  c: AppContext,
  body: CompactRequest,
): Promise<Response> {
  await checkModel(context, c.get("principal"), body.model);
  const id = completionId("resp_");
  const kept = KeptResponses.of(context, c);
  const { items } = await readItems(kept, body, id);
  const { text, usage } = items.length === 0
    ? { text: "", usage: NOTHING }
    : await summary(context, c, toPrompt(body, items), id);
  const encrypted_content = kept?.seal(text) ?? "";
  const users = items.map(({ item }) => item).filter(isUsers);
  const output = [
    ...users,
    { id: itemId(id, "compaction", "out", users.length), type: "compaction", encrypted_content },
  ];
  const head = { id, object: "response.compaction", created_at: unixSeconds() };
  const told = itemsText({ ...head, output, usage: toUsage(usage) });
  return new Response(told, { headers: { "content-type": "application/json" } });
}

function isUsers(item: Item): boolean {
  return item.type === "message" && item.role === "user";
}

/** @throws {ApiError} where the model's own end was not the summary's */
async function summary(
  context: ServerContext,
  c: AppContext,
  chat: ChatRequest,
  id: string,
): Promise<{ readonly text: string; readonly usage: UsageBody }> {
  const max_tokens = Math.min(MOST_TOKENS, Math.ceil(context.engine.maxContext * MOST_SHARE));
  const messages = [...chat.messages, { role: "user" as const, content: ASKED }];
  // thoughts, which are none of it, could take all of its tokens
  const asked = { ...chat, messages, max_tokens, reasoning_effort: "none" as const };
  const { run } = await startChat(context, askerOf(c), asked, id);
  try {
    const [sample] = await collect(run, 1);
    endOf(sample?.finishReason);
    await run.complete();
    noteUsage(c, run.usage());
    return { text: sample?.text.trim() ?? "", usage: run.usage() };
  } finally {
    run.close();
  }
}
