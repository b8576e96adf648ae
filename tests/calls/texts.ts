/** Texts with calls as models write them, and what is to be read in each. */
import type { CallFormat } from "../../src/calls/formats.ts";

/** What a text says: its content, and name and arguments of each call. */
export interface Said {
  readonly content: string;
  readonly calls: readonly (readonly [name: string, args: string])[];
}

export interface CallText extends Said {
  readonly name: string;
  readonly format: CallFormat;
  readonly text: string;
}

/** The functions that there are. */
export const NAMES = ["get_weather", "add", "no_args", "math.sqrt"];

const WEATHER = `{"name": "get_weather", "arguments": {"city": "Köln 🌧", "unit": "c"}}`;
const CITY = `{"city": "Köln 🌧", "unit": "c"}`;
const ADD =
  `{"name": "add", "arguments": {"a": 1, "b": [2.5e3, -0, {"x": null}], "s": "\\u00e9\\"}"}}`;
const ADDED = `{"a": 1, "b": [2.5e3, -0, {"x": null}], "s": "\\u00e9\\"}"}`;

function text(
  format: CallFormat,
  name: string,
  text: string,
  content: string,
  ...calls: Said["calls"]
): CallText {
  return { format, name, text, content, calls };
}

/** That there is no call: all of it is content. */
function plain(format: CallFormat, name: string, all: string): CallText {
  return text(format, name, all, all);
}

export const TEXTS: readonly CallText[] = [
  plain("hermes", "no call", "The sky is blue.\n\nIt has 2 < 3 clouds, and <tools are none."),
  plain("hermes", "blanks at the end stay", "Hello \n\n"),
  plain("hermes", "nothing at all", ""),
  text(
    "hermes",
    "a call",
    `<tool_call>\n${WEATHER}\n</tool_call>`,
    "",
    ["get_weather", CITY],
  ),
  text(
    "hermes",
    "content, two calls, content",
    `Let me look. \n<tool_call>\n${WEATHER}\n</tool_call>\n<tool_call>${ADD}</tool_call>\nDone.`,
    "Let me look.\nDone.",
    ["get_weather", CITY],
    ["add", ADDED],
  ),
  text(
    "hermes",
    "the arguments first, and an id",
    `<tool_call>{"id":"x","arguments":{"a":{}},"name":"add"}</tool_call>`,
    "",
    ["add", `{"a":{}}`],
  ),
  text(
    "hermes",
    "arguments that are text once more",
    `<tool_call>{"name":"add","arguments":"{\\"a\\": 1}"}</tool_call>`,
    "",
    ["add", `{"a": 1}`],
  ),
  text(
    "hermes",
    "no arguments",
    `<tool_call>{"name": "no_args"}</tool_call><tool_call>{"name": "no_args", "arguments": null}`,
    "",
    ["no_args", "{}"],
    ["no_args", "{}"],
  ),
  text(
    "hermes",
    "two objects between tags",
    `<tool_call>\n${WEATHER}\n${ADD}\n</tool_call>`,
    "",
    ["get_weather", CITY],
    ["add", ADDED],
  ),
  text(
    "hermes",
    "the last brace and the tag are left out",
    `<tool_call>\n{"name": "add", "arguments": {"a": 1}\n`,
    "",
    ["add", `{"a": 1}`],
  ),
  text("hermes", "an object alone", WEATHER, "", ["get_weather", CITY]),
  text("hermes", "other tags", `<tools>\n${WEATHER}\n</tools>`, "", ["get_weather", CITY]),
  text(
    "hermes",
    "a fenced object",
    `I call it:\n\`\`\`json\n${WEATHER}\n\`\`\`\n`,
    "I call it:",
    ["get_weather", CITY],
  ),
  plain("hermes", "a fenced object that is no call", 'So:\n```json\n{"city": "Paris"}\n```\nEnd'),
  plain("hermes", "an object that is an answer", '{"answer": [1, 2]}'),
  plain(
    "hermes",
    "an unknown function",
    `A <tool_call>\n{"name": "rm", "arguments": {}}\n</tool_call> B`,
  ),
  plain("hermes", "no JSON", "<tool_call>\nget_weather(Paris)\n</tool_call>"),
  plain("hermes", "a tag that ends the text", "Well <tool_call>"),
  plain("hermes", "half a tag that ends the text", "Well \n<tool_ca"),
  plain(
    "hermes",
    "arguments that break off in the middle",
    `<tool_call>{"name": "add", "arguments": {"a": 1, b: 2}}</tool_call>`,
  ),
  plain(
    "hermes",
    "arguments that are no object",
    `<tool_call>{"name": "add", "arguments": [1]}</tool_call>`,
  ),
  plain(
    "hermes",
    "the model ends its turn within",
    `<tool_call>{"name": "add", "arguments": {"a": "`,
  ),
  text(
    "hermes",
    "a broken call before a whole one",
    `<tool_call>{"name": "add", "arguments": {x}}</tool_call>\n<tool_call>${WEATHER}</tool_call>`,
    `<tool_call>{"name": "add", "arguments": {x}}</tool_call>`,
    ["get_weather", CITY],
  ),
  text(
    "hermes",
    "a tag that begins anew",
    `<tool_call>{"na<tool_call>${WEATHER}</tool_call>`,
    `<tool_call>{"na<tool_call>${WEATHER}</tool_call>`,
  ),

  text(
    "llama3_json",
    "a call",
    `{"name": "get_weather", "parameters": ${CITY}}`,
    "",
    ["get_weather", CITY],
  ),
  text(
    "llama3_json",
    "two calls behind the tag",
    `<|python_tag|>{"name": "add", "parameters": {"a": 1}}; {"name": "no_args", "parameters": {}}`,
    "",
    ["add", `{"a": 1}`],
    ["no_args", "{}"],
  ),
  text(
    "llama3_json",
    "a type, and text behind it",
    `{"type": "function", "name": "add", "parameters": {"a": 1}}\nThat is all.`,
    "\nThat is all.",
    ["add", `{"a": 1}`],
  ),
  plain("llama3_json", "an object within text", `It is {"name": "add", "parameters": {}}`),
  plain("llama3_json", "Python", `<|python_tag|>print("hi")`),

  text(
    "mistral",
    "a list",
    `[TOOL_CALLS][${WEATHER}, ${ADD}]`,
    "",
    ["get_weather", CITY],
    ["add", ADDED],
  ),
  text(
    "mistral",
    "content before it, blanks within",
    `Sure. [TOOL_CALLS] [ {"name": "add", "arguments": {"a": 1}, "id": "abcdefghi"} ]`,
    "Sure.",
    ["add", `{"a": 1}`],
  ),
  text(
    "mistral",
    "names with arguments",
    `[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]no_args{}[TOOL_CALLS]add[CALL_ID]abc123456[ARGS]{"b": 2}`,
    "",
    ["add", `{"a": 1}`],
    ["no_args", "{}"],
    ["add", `{"b": 2}`],
  ),
  text(
    "mistral",
    "a list whose second call is broken",
    `[TOOL_CALLS][{"name": "add", "arguments": {}}, {"name": "rm"}]`,
    `, {"name": "rm"}]`,
    ["add", "{}"],
  ),
  plain("mistral", "a list without its token", `[{"name": "add", "arguments": {}}]`),

  text(
    "pythonic",
    "two calls",
    `[get_weather(city="Köln 🌧", unit='c'), no_args()]`,
    "",
    ["get_weather", CITY],
    ["no_args", "{}"],
  ),
  text(
    "pythonic",
    "Python's values",
    `[add(a=-1.5, b=[True, None, (1, 2), {'k': "v"}], s='it\\'s \\u00e9\\n', t=1e3, n=1_000, x=.5)]`,
    "",
    [
      "add",
      `{"a": -1.5, "b": [true, null, [1, 2], {"k": "v"}], "s": "it's é\\n", "t": 1e3, "n": 1000, "x": 0.5}`,
    ],
  ),
  text(
    "pythonic",
    "tags and a dotted name",
    `<|python_start|>[math.sqrt(x=2)]<|python_end|>`,
    "",
    ["math.sqrt", `{"x": 2}`],
  ),
  plain("pythonic", "a footnote", "[1] Paris is a city."),
  plain("pythonic", "an unknown function", "[rm(path='/')]"),
  plain("pythonic", "no keyword", "[add(1, 2)]"),
  plain("pythonic", "a name is no value", "[add(a=1, b=c)]"),
  plain("pythonic", "a call within text", "I use [add(a=1)]"),
];
