/**
 * A request of the Responses API as the chat that it stands for, so that prompt, sampling, tools and
 * grammar are the same. Calls that follow a message of the assistant's are that message's; reasoning is
 * that of the message, or the call, after it.
 */
import { stringOf, type Text } from "../../../src/checkpoint/text/prompt.ts";
import { invalid } from "../../errors.ts";
import type { ChatRequest, MessageBody } from "../schema/chat.ts";
import type { Item, OutputReasoning } from "./items.ts";
import { flatName, flatTools } from "./namespaces.ts";
import { type CountRequest, LOGPROBS, type ResponseRequest } from "./schema.ts";

/** An item, and its name for errors: `input[1]`. */
export interface PlacedItem {
  readonly item: Item;
  readonly at: string;
  /** What a compaction says. */
  readonly summary?: string;
}

/** Before what a compaction says. */
const SUMMARY = "Summary of the conversation up to here:\n";

/** @throws {ApiError} 400 naming the field, or the item, that cannot be as it is */
export function toChat(body: ResponseRequest, items: readonly PlacedItem[]): ChatRequest {
  const logprobs = body.include?.includes(LOGPROBS) ?? false;
  if (body.top_logprobs && !logprobs) {
    throw invalid(
      "top_logprobs",
      `'top_logprobs' is only allowed when 'include' has '${LOGPROBS}'.`,
    );
  }
  if (body.stream_options && !body.stream) {
    throw invalid("stream_options", "'stream_options' is only allowed when 'stream' is true.");
  }
  const { adapter, temperature, top_p, top_k, min_p, repetition_penalty, seed, stop } = body;
  return {
    ...toPrompt(body, items),
    ...{ adapter, temperature, top_p, top_k, min_p, repetition_penalty, seed, stop },
    priority: body.priority,
    max_tokens: body.max_output_tokens,
    stream: body.stream,
    user: body.user,
    ...(logprobs && { logprobs, top_logprobs: body.top_logprobs }),
  };
}

/**
 * What becomes the prompt.
 * @throws {ApiError} 400 naming the item that cannot be where it is
 */
export function toPrompt(body: CountRequest, items: readonly PlacedItem[]): ChatRequest {
  const { instructions, tool_choice: choice } = body;
  return {
    model: body.model,
    messages: [
      ...(instructions ? [{ role: "system" as const, content: instructions }] : []),
      ...toMessages(items),
    ],
    tools: body.tools && [...flatTools(body.tools)],
    tool_choice: typeof choice === "object" && choice !== null
      ? { type: "function", function: { name: choice.name } }
      : choice,
    parallel_tool_calls: body.parallel_tool_calls,
    reasoning_effort: body.reasoning?.effort,
    ...(body.truncation === "auto" && { truncate_prompt_tokens: -1 }),
    ...formatOf(body),
  };
}

function formatOf({ text }: CountRequest): Pick<ChatRequest, "response_format"> {
  switch (text?.format?.type) {
    case "json_object":
      return { response_format: { type: "json_object" } };
    case "json_schema": {
      const { schema, strict } = text.format;
      return { response_format: { type: "json_schema", json_schema: { schema, strict } } };
    }
    default:
      return {};
  }
}

type Call = NonNullable<MessageBody["tool_calls"]>[number];

function toMessages(items: readonly PlacedItem[]): MessageBody[] {
  const messages: MessageBody[] = [];
  const called = new Set<string>();
  let thoughts: readonly string[] = [];
  for (const { item, at, summary } of items) {
    if (item.type === "reasoning") {
      thoughts = [...thoughts, thoughtOf(item)];
      continue;
    }
    const reasoned = thoughts.length === 0 ? {} : { reasoning: thoughts.join("\n") };
    thoughts = [];
    switch (item.type) {
      case "compaction":
        if (summary) messages.push({ role: "assistant", content: SUMMARY + summary });
        continue;
      case "message":
        if (item.role !== "assistant" && "reasoning" in reasoned) {
          // the assistant was cut off while it thought; its turn stays, as templates may want turns
          messages.push({ role: "assistant", content: "", ...reasoned });
        }
        messages.push({
          ...{ role: item.role, content: contentOf(item.content) },
          ...(item.role === "assistant" && reasoned),
        });
        continue;
      case "function_call":
        called.add(item.call_id);
        addCall(messages, {
          id: item.call_id,
          type: "function",
          function: { name: flatName(item), arguments: item.arguments },
        }, reasoned);
        continue;
      case "function_call_output":
        checkCalled(item.call_id, called, at);
        messages.push({
          role: "tool",
          tool_call_id: item.call_id,
          content: contentOf(item.output),
        });
    }
  }
  return messages;
}

function contentOf(
  content: Text | readonly { readonly text: Text }[],
): NonNullable<MessageBody["content"]> {
  if (!Array.isArray(content)) return content as Text;
  const [only, ...more] = content as readonly { readonly text: Text }[];
  if (more.length === 0) return only?.text ?? "";
  return [...content].map(({ text }) => ({ type: "text", text }));
}

function thoughtOf({ content, summary }: OutputReasoning): string {
  return (content.length > 0 ? content : summary).map(({ text }) => stringOf(text)).join("\n");
}

/** A call is the last message's, where that is the assistant's, who has not thought since. */
function addCall(
  messages: MessageBody[],
  call: Call,
  reasoned: Pick<MessageBody, "reasoning">,
): void {
  const last = messages.at(-1);
  if (last?.role !== "assistant" || "reasoning" in reasoned) {
    messages.push({ role: "assistant", content: "", ...reasoned, tool_calls: [call] });
  } else {
    messages[messages.length - 1] = { ...last, tool_calls: [...last.tool_calls ?? [], call] };
  }
}

function checkCalled(id: string, called: ReadonlySet<string>, at: string): void {
  if (called.has(id)) return;
  throw invalid(
    `${at}.call_id`,
    `Invalid '${at}.call_id': no 'function_call' before it has the call_id '${id.slice(0, 80)}'.`,
  );
}
