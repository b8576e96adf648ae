/** The reasoning's reader over hand-made texts: what it parts, however they are cut. */
import { assertEquals } from "@std/assert";
import {
  REASONING_MARKS,
  type ReasoningFormat,
  reasoningFormatOf,
  ReasoningReader,
} from "../../src/calls/reasoning.ts";

function read(format: ReasoningFormat, pieces: readonly string[], openers: readonly string[] = []) {
  const reader = new ReasoningReader({ ...REASONING_MARKS[format], openers });
  const parted = [...pieces.map((piece) => reader.push(piece)), reader.finish()];
  return [
    parted.map(({ reasoning }) => reasoning).join(""),
    parted.map(({ answer }) => answer).join(""),
  ];
}

const MANY = " ".repeat(100);

const CASES: readonly (readonly [ReasoningFormat, string, string, string])[] = [
  ["qwen3", "<think>\nTwo and two.\n</think>\n\nFour.", "Two and two.", "Four."],
  ["qwen3", "Two and two.</think>Four. </think>", "Two and two.", "Four. </think>"],
  ["qwen3", "\n <think></think>\n\nFour.", "", "Four."],
  ["qwen3", "a < b, </thin", "a < b, </thin", ""],
  ["deepseek_r1", "never ends \n", "never ends", ""],
  ["deepseek_r1", "<thing> is\n\n\nit</think> x ", "<thing> is\n\n\nit", "x "],
  ["deepseek_v3", " Just words. <think>no</think>", "", " Just words. <think>no</think>"],
  ["deepseek_v3", "<think>hm</think>so", "hm", "so"],
  ["deepseek_v3", "<thi", "", "<thi"],
  ["mistral", "[THINK]hm[/THINK]so", "hm", "so"],
  ["seed_oss", "<seed:think>hm</seed:think>so", "hm", "so"],
  ["qwen3", `a${MANY}</think>b`, `a${MANY.slice(64)}`, "b"],
  ["qwen3", `a${MANY}b</think>${MANY}c`, `a${MANY}b`, "c"],
  ["qwen3", "<", "<", ""],
  ["qwen3", "", "", ""],
];

Deno.test("reasoning and answer are parted at the marks, in whatever pieces they come", () => {
  for (const [format, text, reasoning, answer] of CASES) {
    for (let cut = 0; cut <= text.length; cut++) {
      const label = `${format}, ${text}, cut at ${cut}`;
      const pieces = [text.slice(0, cut), text.slice(cut)];
      assertEquals(read(format, pieces), [reasoning, answer], label);
    }
    assertEquals(read(format, [...text]), [reasoning, answer], `${format}, ${text}`);
  }
});

Deno.test("a call ends reasoning that has no end, and is the answer's", () => {
  const text = `hm <tool_cat\n<tool_call>{"name": 1}`;
  for (const pieces of [[text], [...text]]) {
    assertEquals(read("qwen3", pieces, ["<tool_call>"]), [
      "hm <tool_cat",
      `<tool_call>{"name": 1}`,
    ]);
  }
  assertEquals(read("qwen3", [`${text}</think>x`]), [text, "x"]);
});

Deno.test("a template's marks say how its model reasons", () => {
  assertEquals(reasoningFormatOf("{{ '<think>\\n\\n</think>' }}"), "deepseek_v3");
  assertEquals(reasoningFormatOf("[THINK]{{ x }}[/THINK]"), "mistral");
  assertEquals(reasoningFormatOf("</seed:think>"), "seed_oss");
  assertEquals(reasoningFormatOf("<|im_start|>"), undefined);
});
