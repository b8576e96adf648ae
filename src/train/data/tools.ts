/** Tools and calls of them in training data, checked one by one: OpenAI's shapes, as requests have them. */
import {
  argumentsOf,
  templateTool,
  type Tool,
  type ToolCall,
} from "../../checkpoint/text/tools.ts";
import { BrokenLine, shown } from "./faults.ts";

type Values = Readonly<Record<string, unknown>>;

/**
 * Checks `tools`: null and nothing are none.
 * @throws {BrokenLine} naming the tool, the field and its value
 */
export function readTools(value: unknown): readonly Tool[] {
  if (value === undefined || value === null) return [];
  return listOf("tools", value).map((item, i) => {
    const fields = functionOf(`tools[${i}]`, item);
    const at = `tools[${i}].function`;
    const { description, parameters } = fields;
    if (description !== undefined && description !== null && typeof description !== "string") {
      throw new BrokenLine(`${at}.description is ${shown(description)}, it should be a string`);
    }
    const schema = parameters === undefined || parameters === null
      ? undefined
      : objectOf(`${at}.parameters`, parameters);
    return templateTool({ name: nameOf(at, fields), description, parameters: schema });
  });
}

/**
 * Checks an assistant's `tool_calls`.
 * @param at the message, as `messages[2]`
 * @throws {BrokenLine} naming the call, the field and its value
 */
export function readCalls(at: string, value: unknown): readonly ToolCall[] {
  if (value === undefined) return [];
  return listOf(`${at}.tool_calls`, value).map((item, i) => {
    const own = `${at}.tool_calls[${i}]`;
    const fields = functionOf(own, item);
    const { id } = item as Values;
    if (id !== undefined && typeof id !== "string") {
      throw new BrokenLine(`${own}.id is ${shown(id)}, it should be a string`);
    }
    return {
      ...(id !== undefined && { id }),
      type: "function",
      function: {
        name: nameOf(`${own}.function`, fields),
        arguments: callArguments(`${own}.function.arguments`, fields["arguments"]),
      },
    };
  });
}

function callArguments(at: string, value: unknown): Values {
  if (value === undefined || value === null) return {};
  if (typeof value !== "string") return objectOf(at, value);
  const values = argumentsOf(value);
  if (values !== undefined) return values;
  throw new BrokenLine(`${at} is ${shown(value)}, it should be the text of a JSON object`);
}

/** The `function` of a tool or a call. */
function functionOf(at: string, value: unknown): Values {
  const { type, function: own } = objectOf(at, value);
  if (type !== undefined && type !== "function") {
    throw new BrokenLine(`${at}.type is ${shown(type)}, it should be 'function'`);
  }
  return objectOf(`${at}.function`, own);
}

function nameOf(at: string, { name }: Values): string {
  if (typeof name === "string" && name !== "") return name;
  throw new BrokenLine(`${at}.name is ${shown(name)}, it should be a function's name`);
}

function listOf(at: string, value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new BrokenLine(`${at} is ${shown(value)}, it should be a list`);
}

function objectOf(at: string, value: unknown): Values {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Values;
  throw new BrokenLine(`${at} is ${shown(value)}, it should be an object`);
}
