/**
 * What a request's tools ask for: which the model is told of, whether its text is read for calls, and
 * the grammar that has it call.
 */
import { CALL_TOKENS, type CallFormat, callFormatOf } from "../../src/calls/formats.ts";
import {
  type CallableTool,
  callOpener,
  type CallsGrammar,
} from "../../src/grammar/compile_calls.ts";
import type { Grammar } from "../../src/grammar/pool.ts";
import type { ServedModel } from "../context.ts";
import { invalid } from "../errors.ts";
import type { ChatRequest } from "../http/schema/chat.ts";
import type { ToolBody } from "../http/schema/tools.ts";

/** Most calls of an answer that a grammar forces: small models would never end. */
const MOST_CALLS = 16;

/** What an answer's text is read for. */
export interface Calling {
  readonly format: CallFormat;
  readonly names: readonly string[];
  /** Most calls of an answer. */
  readonly most: number;
  /** A special token that the prompt ends with, as it opens the calls that are forced. */
  readonly opener: { readonly id: number; readonly text: string } | undefined;
  /** Undefined = as `response_format` says. */
  readonly grammar: Grammar | undefined;
  /** Whether special tokens have to be shown, as one of them tells a call. */
  readonly showSpecial: boolean;
}

/** The request's tools. */
export interface ToolUse {
  /** Those that the model is told of. */
  readonly shown: ToolBody[];
  /** Undefined = no call is looked for. */
  readonly calling: Calling | undefined;
}

type Asked = Pick<ChatRequest, "tools" | "tool_choice" | "parallel_tool_calls" | "response_format">;

/** @throws {ApiError} 400 naming the tool, or the choice, that cannot be */
export function toolUse(model: ServedModel, body: Asked): ToolUse {
  const tools = body.tools ?? [];
  const choice = body.tool_choice ?? "auto";
  checkNames(tools);
  if (tools.length === 0 && choice !== "none" && choice !== "auto") {
    throw invalid("tool_choice", "'tool_choice' is only allowed when 'tools' are given.");
  }
  if (tools.length === 0 || choice === "none") return { shown: [], calling: undefined };
  const { source = "", toolSource = source } = model.chatTemplate ?? {};
  const format = model.callFormat ?? callFormatOf(toolSource);
  const special = specialTokens(model, format);
  const forced = choice !== "auto";
  const opener = forced ? special.find(({ text }) => text === callOpener(format)) : undefined;
  const most = body.parallel_tool_calls === false || typeof choice === "object" ? 1 : MOST_CALLS;
  const callable = chosen(tools, choice);
  const calls: CallsGrammar = {
    type: "calls",
    format,
    tools: callable,
    most,
    opened: opener !== undefined,
    otherwise: undefined,
  };
  return {
    shown: tools,
    calling: {
      format,
      names: callable.map(({ name }) => name),
      most: body.parallel_tool_calls === false ? 1 : Infinity,
      opener,
      grammar: forced ? calls : instead(calls, body),
      showSpecial: special.length > 0,
    },
  };
}

function checkNames(tools: readonly ToolBody[]): void {
  const seen = new Set<string>();
  for (const [index, { function: { name } }] of tools.entries()) {
    const field = `tools[${index}].function.name`;
    if (seen.has(name)) throw invalid(field, `Invalid '${field}': '${name}' is there already.`);
    seen.add(name);
  }
}

/** The functions that may be called. */
function chosen(
  tools: readonly ToolBody[],
  choice: NonNullable<Asked["tool_choice"]>,
): readonly CallableTool[] {
  const all = tools.map(({ function: { name, parameters } }, index) => ({
    name,
    parameters: parameters ? { type: "object", ...parameters } : NO_PARAMETERS,
    field: `tools[${index}].function.parameters`,
  }));
  if (typeof choice === "string") return all;
  const named = all.filter(({ name }) => name === choice.function.name);
  if (named.length > 0) return named;
  throw invalid(
    "tool_choice",
    `Invalid 'tool_choice': no function in 'tools' is named '${choice.function.name}'.`,
  );
}

const NO_PARAMETERS = { type: "object", properties: {}, additionalProperties: false };

/** With `response_format` the model answers in its form, or calls. */
function instead(calls: CallsGrammar, { response_format: format }: Asked): Grammar | undefined {
  switch (format?.type) {
    case "json_object":
      return { ...calls, otherwise: { type: "object" } };
    case "json_schema":
      return { ...calls, otherwise: format.json_schema.schema };
    default:
      return undefined;
  }
}

function specialTokens({ tokenizer }: ServedModel, format: CallFormat) {
  return CALL_TOKENS[format].flatMap((text) => {
    const id = tokenizer.tokenId(text);
    return id !== undefined && tokenizer.isSpecial(id) ? [{ id, text }] : [];
  });
}
