/** The parsers over hand-made texts: what they read, and that it does not depend on how they are cut. */
import { assert, assertEquals } from "@std/assert";
import { callFormatOf, callParser } from "../../src/calls/formats.ts";
import type { CallEvent, TextEnd } from "../../src/calls/parser.ts";
import { type CallText, NAMES, type Said, TEXTS } from "./texts.ts";

/** What events say; a broken call is its text. */
function saidBy(events: readonly CallEvent[]): Said {
  let content = "";
  const calls = new Map<number, [string, string]>();
  for (const event of events) {
    if (event.type === "text" || event.type === "broken") content += event.text;
    if (event.type === "broken") {
      assert(calls.delete(event.call), "a call broke that had not begun");
    }
    if (event.type === "call") calls.set(event.call, [event.name, ""]);
    if (event.type === "arguments") {
      const known = calls.get(event.call);
      assert(known !== undefined, "arguments of no call");
      known[1] += event.text;
    }
  }
  return { content, calls: [...calls.values()] };
}

function read(
  { format }: Pick<CallText, "format">,
  pieces: readonly string[],
  end: TextEnd = "whole",
): readonly CallEvent[] {
  const parser = callParser(format, NAMES);
  return [...pieces.flatMap((piece) => parser.push(piece)), ...parser.finish(end)];
}

for (const one of TEXTS) {
  Deno.test(`${one.format}: ${one.name}`, () => {
    const { text, content, calls } = one;
    assertEquals(saidBy(read(one, [text])), { content, calls });
  });
}

Deno.test("a text gives the same in whatever pieces it comes", () => {
  for (const one of TEXTS) {
    const { text, content, calls } = one;
    const said = { content, calls };
    for (let cut = 0; cut <= text.length; cut++) {
      const label = `${one.format}, ${one.name}, cut at ${cut}`;
      assertEquals(saidBy(read(one, [text.slice(0, cut), text.slice(cut)])), said, label);
    }
    for (const size of [1, 2, 3, 7]) {
      const pieces = Array.from(
        { length: Math.ceil(text.length / size) },
        (_, i) => text.slice(i * size, (i + 1) * size),
      );
      assertEquals(saidBy(read(one, pieces)), said, `${one.name}, pieces of ${size}`);
    }
  }
});

Deno.test("arguments are JSON objects, and what is cut off is not lost", () => {
  for (const one of TEXTS) {
    for (const [, args] of one.calls) assertEquals(typeof JSON.parse(args), "object");
    for (let end = 0; end < one.text.length; end++) {
      const start = one.text.slice(0, end);
      const whole = saidBy(read(one, [start], "whole"));
      for (const [name, args] of whole.calls) {
        assert(NAMES.includes(name) && typeof JSON.parse(args) === "object");
      }
      if (one.calls.length === 0) assertEquals(whole.content.trimEnd(), start.trimEnd(), one.name);
    }
  }
});

Deno.test("text goes out at once, and what may be a call is held back", () => {
  const parser = callParser("hermes", NAMES);
  assertEquals(parser.push("Two < three"), [{ type: "text", text: "Two < three" }]);
  assertEquals(parser.push(" <tool"), []);
  assertEquals(parser.push("s are"), [{ type: "text", text: " <tools are" }]);
  assertEquals(parser.push("\n<tool_call>\n{"), []);
  assertEquals(parser.push(`"name": "ad`), []);
  assertEquals(parser.push(`d"`), [{ type: "call", call: 0, name: "add" }]);
  assertEquals(parser.push(`, "arguments": `), []);
  assertEquals(parser.push(`{"a`), [{ type: "arguments", call: 0, text: `{"a` }]);
  assertEquals(parser.push(`": 12`), [{ type: "arguments", call: 0, text: `": 12` }]);
  assertEquals(parser.push(`3}`), [{ type: "arguments", call: 0, text: "3}" }]);
  assertEquals(parser.push("}\n</tool_call>"), []);
  assertEquals(parser.finish("whole"), []);
});

Deno.test("blanks without end are not held back without end, and cost no more each", () => {
  const parser = callParser("hermes", NAMES);
  const blanks = "\n".repeat(300_000);
  const [event] = parser.push(blanks);
  assert(event?.type === "text" && event.text.length > 299_000);
  const [last] = parser.finish("whole");
  assert(last?.type === "text");
  assertEquals(event.text.length + last.text.length, blanks.length);
});

Deno.test("a call that was cut off keeps what it had; one that turns out broken is text", () => {
  const start = `<tool_call>{"name": "add", "arguments": {"a": "so f`;
  assertEquals(saidBy(read({ format: "hermes" }, [start], "cut")), {
    content: "",
    calls: [["add", `{"a": "so f`]],
  });
  const events = read({ format: "hermes" }, [start, `ar",}`, `}</tool_call>`]);
  assertEquals(events.filter(({ type }) => type === "broken"), [{
    type: "broken",
    call: 0,
    text: `<tool_call>{"name": "add", "arguments": {"a": "so far",`,
  }]);
  assertEquals(saidBy(events).content, `${start}ar",}}</tool_call>`);
});

Deno.test("a chat template says which format its model writes", () => {
  const templates = [
    ["[AVAILABLE_TOOLS]{{ tools }}[/AVAILABLE_TOOLS][TOOL_CALLS]", "mistral"],
    ['<tool_call>\n{"name": <function-name>', "hermes"],
    ["Environment: ipython <|python_tag|>", "llama3_json"],
    [
      `Respond in the format {"name": function name, "parameters": dictionary of argument`,
      "llama3_json",
    ],
    ["[func_name1(params_name1=params_value1, params_name2=params_value2...)]", "pythonic"],
    ["{% for m in messages %}{{ m.content }}{% endfor %}", "hermes"],
  ] as const;
  for (const [template, format] of templates) assertEquals(callFormatOf(template), format);
});
