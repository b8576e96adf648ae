// deno-lint-ignore-file camelcase -- vLLM's names
/** The ways in which models write calls, by vLLM's names, and which one a chat template means. */
import type { CallParser } from "./parser.ts";
import { CallReader, type Opener } from "./reader.ts";
import { llamaObjects, mistralCalls, objects, pythonicCalls } from "./regions.ts";

export const CALL_FORMATS = ["hermes", "llama3_json", "mistral", "pythonic"] as const;
export type CallFormat = typeof CALL_FORMATS[number];

/** An object that begins the text may be a call, too: small models forget the tags. */
const BARE_OBJECTS: Opener = { text: "{", first: true, inside: true, read: llamaObjects };

const OPENERS: Readonly<Record<CallFormat, readonly Opener[]>> = {
  hermes: [
    { text: "<tool_call>", read: objects("</tool_call>") },
    // what small Qwen models write instead
    { text: "<tools>", read: objects("</tools>") },
    { text: "```json", read: objects("```") },
    BARE_OBJECTS,
  ],
  llama3_json: [{ text: "<|python_tag|>", read: llamaObjects }, BARE_OBJECTS],
  mistral: [{ text: "[TOOL_CALLS]", read: mistralCalls }],
  pythonic: [
    { text: "<|python_start|>", first: true, read: pythonicCalls },
    { text: "[", first: true, inside: true, read: pythonicCalls },
  ],
};

/** Special tokens that begin calls: the text must show them. */
export const CALL_TOKENS: Readonly<Record<CallFormat, readonly string[]>> = {
  hermes: ["<tool_call>"],
  llama3_json: ["<|python_tag|>"],
  mistral: ["[TOOL_CALLS]"],
  pythonic: ["<|python_start|>"],
};

/** @param names of the functions that there are: what calls none of them is text */
export function callParser(format: CallFormat, names: Iterable<string>): CallParser {
  return new CallReader(OPENERS[format], names);
}

/** What a template's source has of each format; Hermes' is the usual one. */
const SIGNS: readonly (readonly [RegExp, CallFormat])[] = [
  [/\[TOOL_CALLS\]/, "mistral"],
  [/<tool_call>/, "hermes"],
  [/\[?func_name1\(|<\|python_start\|>/, "pythonic"],
  [/<\|python_tag\|>|"parameters": dictionary|\\"parameters\\":/, "llama3_json"],
];

/** The format that a chat template teaches. */
export function callFormatOf(template: string): CallFormat {
  return SIGNS.find(([sign]) => sign.test(template))?.[1] ?? "hermes";
}
