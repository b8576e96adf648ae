// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A request's messages and tools as the checkpoint's template takes them, and what of them cannot be:
 * a tool's answer has to name a call before it.
 */
import {
  type Conversation,
  joinLines,
  type TextMessage,
} from "../../src/checkpoint/text/prompt.ts";
import { readsVariable } from "../../src/checkpoint/text/tool_prompt.ts";
import { templateRole } from "../../src/checkpoint/text/roles.ts";
import { argumentsOf, templateTool, type ToolCall } from "../../src/checkpoint/text/tools.ts";
import type { ServedModel } from "../context.ts";
import { type ApiError, invalid } from "../errors.ts";
import type { MessageBody } from "../http/schema/chat.ts";
import type { Effort } from "../http/schema/common.ts";
import type { ToolBody } from "../http/schema/tools.ts";

/** The template's part of a chat or tokenise request. */
export interface TemplateFields {
  readonly messages: readonly MessageBody[];
  readonly add_generation_prompt?: boolean | null | undefined;
  readonly continue_final_message?: boolean | null | undefined;
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>> | null | undefined;
  readonly reasoning_effort?: Effort | null | undefined;
  readonly add_special_tokens?: boolean | null | undefined;
  readonly tools?: readonly ToolBody[] | null | undefined;
}

/** Names that a template gets from us, which `chat_template_kwargs` may not set. */
export const RESERVED_KWARGS = [
  "messages",
  "tools",
  "add_generation_prompt",
  "addGenerationPrompt",
];

/** @throws {ApiError} 400 where there is no template, or for messages that cannot be */
export function toConversation(model: ServedModel, body: TemplateFields): Conversation {
  checkTemplate(model);
  const proceed = body.continue_final_message ?? false;
  const open = body.add_generation_prompt ?? !proceed;
  if (proceed && open) {
    throw invalid(
      "continue_final_message",
      "Cannot set both 'continue_final_message' and 'add_generation_prompt' to true.",
    );
  }
  const extra = body.chat_template_kwargs ?? {};
  for (const name of RESERVED_KWARGS) {
    if (name in extra) {
      throw invalid("chat_template_kwargs", `'chat_template_kwargs' cannot set '${name}'.`);
    }
  }
  const tools = (body.tools ?? []).map((tool) => templateTool(tool.function));
  return {
    messages: toMessages(body.messages),
    options: {
      ...effortVariables(body),
      addGenerationPrompt: open,
      ...(tools.length > 0 && { tools }),
    },
    end: proceed ? "message" : "template",
  };
}

/** As vLLM has it; what `chat_template_kwargs` says of thinking holds. */
function effortVariables(
  { reasoning_effort: effort, chat_template_kwargs: extra }: TemplateFields,
) {
  if (!effort) return extra ?? {};
  return { enable_thinking: effort !== "none", ...extra, reasoning_effort: effort };
}

/** Whether a model's chat template does something about an effort. */
export function heedsEffort({ chatTemplate, reasoning }: ServedModel, effort: Effort): boolean {
  const { source = "", toolSource = "" } = chatTemplate ?? {};
  const reads = (name: string) => [source, toolSource].some((one) => readsVariable(one, name));
  if (reads("reasoning_effort")) return true;
  return effort === "none" && (reasoning === undefined || reads("enable_thinking"));
}

function checkTemplate({ id, chatTemplate }: ServedModel): void {
  if (chatTemplate === undefined) {
    throw invalid("messages", `The model '${id}' has no chat template: use completions.`);
  }
  const { fault } = chatTemplate;
  if (fault !== undefined) {
    throw invalid("messages", `The model '${id}' cannot chat: ${fault}. Use completions.`);
  }
}

function toMessages(bodies: readonly MessageBody[]): readonly TextMessage[] {
  const called = new Set<string>();
  return bodies.map((body, index) => {
    const at = `messages[${index}]`;
    if (body.role === "tool") checkAnswered(`${at}.tool_call_id`, body.tool_call_id, called);
    for (const { id } of body.tool_calls ?? []) called.add(id);
    return toMessage(at, body);
  });
}

function checkAnswered(
  at: string,
  id: string | null | undefined,
  called: ReadonlySet<string>,
): void {
  if (id === undefined || id === null) throw missing(at);
  if (called.has(id)) return;
  throw invalid(
    at,
    `Invalid '${at}': no assistant's message before it has a tool call with the id '${id}'.`,
  );
}

function toMessage(at: string, body: MessageBody): TextMessage {
  const { content, name, tool_call_id } = body;
  const reasoning = body.reasoning ?? body.reasoning_content;
  const calls = toCalls(at, body);
  if ((content === undefined || content === null) && calls.length === 0) {
    throw missing(`${at}.content`);
  }
  return {
    role: templateRole(body.role),
    content: Array.isArray(content) ? joinLines(content.map(({ text }) => text)) : content ?? "",
    ...(name && { name }),
    ...(reasoning && { reasoning, reasoning_content: reasoning }),
    ...(tool_call_id && { tool_call_id }),
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

function toCalls(at: string, { role, tool_calls }: MessageBody): readonly ToolCall[] {
  if (!tool_calls || tool_calls.length === 0) return [];
  if (role !== "assistant") {
    const field = `${at}.tool_calls`;
    throw invalid(field, `Invalid '${field}': only the assistant calls tools.`);
  }
  return tool_calls.map(({ id, function: { name, arguments: given } }) => {
    // a call that was cut off at the output's limit comes back as it was: an agent's loop goes on
    const values = typeof given === "string" ? argumentsOf(given) ?? given : given ?? {};
    return { id, type: "function", function: { name, arguments: values } };
  });
}

function missing(field: string): ApiError {
  return invalid(
    field,
    `Missing required parameter: '${field}'.`,
    "missing_required_parameter",
  );
}
