/** A request of the Responses API before it runs: all that can be refused without the engine. */
import type { AppContext, ServerContext } from "../../context.ts";
import { batchCallOf } from "../../context.ts";
import { invalid } from "../../errors.ts";
import { completionId } from "../../generate/answer.ts";
import type { ChatRun } from "../../generate/chat_run.ts";
import { baseName } from "../../generate/model_name.ts";
import type { ChatRequest } from "../schema/chat.ts";
import { noteEffort, noteVerbosity } from "../no_effect.ts";
import { begunResponse } from "./answer.ts";
import type { ResponseBody } from "./answer_schema.ts";
import { readItems, type RequestItems } from "./input.ts";
import { KeptResponses } from "./stored/kept.ts";
import { itemsText } from "./stored/rows.ts";
import type { ResponseRun } from "./run.ts";
import { LOGPROBS, type ResponseRequest } from "./schema.ts";
import { toChat } from "./to_chat.ts";

/** What is to run, and of what it is made. */
export interface AskedResponse extends Pick<RequestItems, "earlier" | "given"> {
  readonly request: ChatRequest;
  readonly begun: ResponseBody;
  /** Undefined = the server keeps nothing. */
  readonly kept: KeptResponses | undefined;
  /** The run of a chat that is made of the request. */
  readonly running: (chat: Promise<ChatRun>) => ResponseRun;
}

/** @throws {ApiError} for what cannot be, or what there is no room for */
export async function askedResponse(
  context: ServerContext,
  c: AppContext,
  body: ResponseRequest,
): Promise<AskedResponse> {
  noteVerbosity(c, "text.verbosity", body.text?.verbosity);
  noteEffort(c, context.model, "reasoning.effort", body.reasoning?.effort);
  const id = completionId("resp_");
  const kept = KeptResponses.of(context, c);
  const { earlier, given, items } = await readItems(kept, body, id);
  const request = toChat(body, items);
  const store = kept !== undefined && body.store !== false;
  if (body.background) checkBackground(c, store);
  const keeps = store || earlier.conversation !== undefined;
  if (keeps) await kept?.checkRoom(itemsText(given).length);
  const { sampling, tokenizer } = context.model;
  const model = body.model ?? baseName(context.model);
  const begun = begunResponse(body, { id, model, store, sampling });
  return {
    ...{ request, begun, kept, earlier, given },
    running: (chat) => ({
      ...{ chat, begun, tokenizer },
      logprobs: body.include?.includes(LOGPROBS) ?? false,
      padded: body.stream_options?.include_obfuscation ?? false,
      keep: async (response) => {
        if (keeps) await kept?.add(response, { given, earlier });
      },
    }),
  };
}

/** @throws {ApiError} 400 where a response cannot run in the background */
function checkBackground(c: AppContext, store: boolean): void {
  if (batchCallOf(c) !== undefined) {
    throw invalid(
      "background",
      "Invalid 'background': a batch's lines have nobody waiting already.",
    );
  }
  if (store) return;
  throw invalid(
    "background",
    "Invalid 'background': only a response that is kept can run in the background, so 'store' must " +
      "not be false, and the server must keep responses.",
  );
}
