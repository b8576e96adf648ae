/**
 * Tools for chat templates that know none: their schemas go into the system's message, calls and
 * results into the turns, all in the words of Hermes (Hermes 2 Pro, Qwen2.5), which most models have
 * seen.
 */
import { globalScope } from "../jinja/builtins/globals.ts";
import { parseTemplate } from "../jinja/parser.ts";
import { fromJavaScript } from "../jinja/python/values.ts";
import { render } from "../jinja/render.ts";
import type { ChatMessage } from "../checkpoint.ts";

const TOOLS = parseTemplate(`{% if content %}{{ content }}

{% endif %}# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>{% for tool in tools %}{{ "\\n" }}{{ tool | tojson }}{% endfor %}{{ "\\n" }}</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>`);

const CALLS = parseTemplate(
  `{{ content }}{% for call in calls %}{% if content or not loop.first %}{{ "\\n" }}{% endif %}<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {% if call.function.arguments is string %}{{ call.function.arguments }}{% else %}{{ call.function.arguments | tojson }}{% endif %}}
</tool_call>{% endfor %}`,
);

/** Whether a template's source reads the tools. */
export function knowsTools(source: string): boolean {
  return readsVariable(source, "tools");
}

/** Whether a template's source reads a variable, as far as its name tells. */
export function readsVariable(source: string, name: string): boolean {
  return new RegExp(`\\{[%{](?:(?![%}]\\}).)*\\b${name}\\b`, "s").test(source);
}

/** Whether there is something that only a template with tools can show. */
export function hasTools(messages: readonly ChatMessage[], tools: readonly unknown[]): boolean {
  return tools.length > 0 || messages.some((message) => callsOf(message).length > 0);
}

/** Where the tools are told. */
export type ToolPlace = "system" | "user";

/** The messages with tools, calls and results in words. */
export function messagesWithTools(
  messages: readonly ChatMessage[],
  tools: readonly unknown[],
  place: ToolPlace,
): readonly ChatMessage[] {
  const said: ChatMessage[] = [];
  let results = false;
  for (const message of messages) {
    const result = message.role === "tool";
    const last = said.at(-1);
    if (result && results && last !== undefined) {
      said.splice(-1, 1, { ...last, content: `${last.content}\n${resultText(message)}` });
    } else said.push(inWords(message));
    results = result;
  }
  return tools.length === 0 ? said : told(said, tools, place);
}

function inWords(message: ChatMessage): ChatMessage {
  if (message.role === "tool") return { role: "user", content: resultText(message) };
  const calls = callsOf(message);
  if (calls.length === 0) return message;
  return { role: message.role, content: written(CALLS, { content: message.content, calls }) };
}

function resultText({ content }: ChatMessage): string {
  return `<tool_response>\n${content}\n</tool_response>`;
}

function told(
  messages: readonly ChatMessage[],
  tools: readonly unknown[],
  place: ToolPlace,
): readonly ChatMessage[] {
  const [first, ...others] = messages;
  if (first?.role === "system" || (place === "user" && first?.role === "user")) {
    return [{ ...first, content: toolText(first, tools) }, ...others];
  }
  return [{ role: "system", content: written(TOOLS, { content: "", tools }) }, ...messages];
}

function toolText({ role, content }: ChatMessage, tools: readonly unknown[]): string {
  if (role === "system") return written(TOOLS, { content, tools });
  return `${written(TOOLS, { content: "", tools })}\n\n${content}`;
}

function callsOf({ tool_calls: calls }: ChatMessage): readonly unknown[] {
  return Array.isArray(calls) ? calls : [];
}

function written(
  template: ReturnType<typeof parseTemplate>,
  values: Readonly<Record<string, unknown>>,
): string {
  const scope = globalScope(() => "");
  for (const [name, value] of Object.entries(values)) scope.set(name, fromJavaScript(value));
  return render(template, scope);
}
