/**
 * The messages of OpenAI's chat fine-tuning format, checked one by one: roles, text content, calls of
 * tools and weights.
 */
import type { ChatMessage } from "../../checkpoint/checkpoint.ts";
import { type Role, ROLES, templateRole } from "../../checkpoint/text/roles.ts";
import { BrokenLine, shown, wholeText } from "./faults.ts";
import { readCalls } from "./tools.ts";

/** A message as a template takes it, and how much its tokens count. */
export interface TrainMessage {
  readonly message: ChatMessage;
  /** From 0 to 1; 0 for all that is not the assistant's. */
  readonly weight: number;
}

type Values = Readonly<Record<string, unknown>>;

const FIELDS = [
  "role",
  "content",
  "name",
  "weight",
  "tool_call_id",
  "tool_calls",
  "function_call",
  "refusal",
  "audio",
];
/** What an answer may be besides text and calls, and a text model cannot be taught. */
const NO_TEXT = ["function_call", "refusal", "audio"];

/** Whether rows have an answer to learn, or may end where one is to come. */
export type Answers = "required" | "optional";

/**
 * Checks `messages`, which ends with an assistant's message and has one with loss; where answers are
 * optional it may end with another's, and then carries none.
 *
 * @param ignored hears of each field that is passed over
 * @throws {BrokenLine} naming the message, the field and its value
 */
export function readConversation(
  value: unknown,
  ignored: (name: string) => void,
  answers: Answers,
): readonly TrainMessage[] {
  if (!Array.isArray(value)) {
    throw new BrokenLine(`messages is ${shown(value)}, it should be a list`);
  }
  const messages = value.map((item, i) => readMessage(`messages[${i}]`, item, ignored));
  const last = messages.at(-1)?.message.role;
  if (answers === "optional" && last !== undefined && last !== "assistant") {
    return messages.map(({ message }) => ({ message, weight: 0 }));
  }
  if (last !== "assistant") {
    throw new BrokenLine(
      last === undefined
        ? "messages is empty"
        : `the last message is from '${last}', it should be the assistant's`,
    );
  }
  if (messages.every(({ weight }) => weight === 0)) {
    throw new BrokenLine("no token carries loss: every assistant message has weight 0");
  }
  return messages;
}

function readMessage(at: string, value: unknown, ignored: (name: string) => void): TrainMessage {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new BrokenLine(`${at} is ${shown(value)}, it should be an object`);
  }
  const fields: Values = Object.fromEntries(
    Object.entries(value).filter(([, field]) => field !== null),
  );
  for (const name of Object.keys(fields)) {
    if (FIELDS.includes(name)) continue;
    throw new BrokenLine(`${at} has the unknown field ${shown(name)}; known are ${list(FIELDS)}`);
  }
  const role = roleOf(at, fields["role"]);
  const weight = weightOf(at, role, fields["weight"]);
  checkText(at, fields);
  const calls = readCalls(at, fields["tool_calls"]);
  if (calls.length > 0 && role !== "assistant") {
    throw new BrokenLine(`${at}.tool_calls is of the role '${role}': only the assistant calls`);
  }
  const alone = calls.length > 0 && fields["content"] === undefined;
  const content = alone ? "" : contentOf(`${at}.content`, fields["content"]);
  if (fields["name"] !== undefined) ignored("name");
  const call = fields["tool_call_id"];
  if (typeof call === "string") wholeText(`${at}.tool_call_id`, call);
  return {
    message: {
      role: templateRole(role),
      content,
      ...(call === undefined ? {} : Object.fromEntries([["tool_call_id", call]])),
      ...(calls.length === 0 ? {} : Object.fromEntries([["tool_calls", calls]])),
    },
    weight,
  };
}

function roleOf(at: string, value: unknown): Role {
  const role = ROLES.find((one) => one === value);
  if (role !== undefined) return role;
  throw new BrokenLine(`${at}.role is ${shown(value)}, it should be one of ${list(ROLES)}`);
}

function weightOf(at: string, role: string, value: unknown): number {
  if (value === undefined) return role === "assistant" ? 1 : 0;
  if (typeof value !== "number" || value < 0 || value > 1) {
    throw new BrokenLine(`${at}.weight is ${shown(value)}, it should be a number from 0 to 1`);
  }
  if (role !== "assistant" && value > 0) {
    throw new BrokenLine(
      `${at}.weight is ${value} for the role '${role}': only assistant messages carry loss`,
    );
  }
  return value;
}

function checkText(at: string, fields: Values): void {
  for (const name of NO_TEXT) {
    const value = fields[name];
    if (value === undefined || (Array.isArray(value) && value.length === 0)) continue;
    throw new BrokenLine(`${at}.${name} cannot be trained: only text and tool_calls can`);
  }
}

/** Text parts are joined as the server joins them for inference. */
function contentOf(at: string, value: unknown): string {
  if (typeof value === "string") return wholeText(at, value);
  if (!Array.isArray(value) || value.length === 0) {
    const found = Array.isArray(value) ? "an empty list" : shown(value);
    throw new BrokenLine(`${at} is ${found}, it should be a string or a list of text parts`);
  }
  return value.map((part, i) => partText(`${at}[${i}]`, part)).join("\n");
}

function partText(at: string, value: unknown): string {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new BrokenLine(`${at} is ${shown(value)}, it should be an object`);
  }
  const { type, text } = value as Values;
  if (type !== "text") throw new BrokenLine(`${at}.type is ${shown(type)}, it should be 'text'`);
  if (typeof text === "string") return wholeText(`${at}.text`, text);
  throw new BrokenLine(`${at}.text is ${shown(text)}, it should be a string`);
}

function list(names: readonly string[]): string {
  return names.join(", ");
}
