/** What a dry run shows: each token with its weight, and a text that no file can turn against it. */
import { assertEquals } from "@std/assert";
import { readDataset } from "../../../src/train/data/dataset.ts";
import { type Marks, showExample, tokenViews } from "../../../src/train/data/dry_run.ts";
import type { Example } from "../../../src/train/gradients/model.ts";
import { fileOf, templateSource, tinySource, turns } from "../sources.ts";

const source = tinySource({ tokenizer: "smollm", template: templateSource("chatml") });

function exampleOf(messages: readonly unknown[]): Example {
  const [example] = readDataset(fileOf({ messages }), { source, maxContext: 512 }).examples;
  if (example === undefined) throw new Error("no example");
  return example;
}

function show(messages: readonly unknown[], marks: Marks = "brackets"): string {
  return showExample(exampleOf(messages), source.tokenizer, marks);
}

Deno.test("loss is marked from the answer's first token to its end token", () => {
  assertEquals(
    show([{ role: "system", content: "s" }, ...turns("Hi", "Hello 🙂", "Bye", "Ciao")]),
    "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n" +
      "⟦Hello 🙂<|im_end|>⟧\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n" +
      "⟦Ciao<|im_end|>⟧",
  );
});

Deno.test("a weight that is not 1 is shown, and colours mark the same tokens", () => {
  const messages = [{ role: "system", content: "s" }, ...turns("Hi"), {
    role: "assistant",
    content: "x",
    weight: 0.1,
  }];
  const before = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n" +
    "<|im_start|>assistant\n";
  assertEquals(show(messages), `${before}⟦x<|im_end|>⟧×0.1`);
  assertEquals(
    show(messages, "colours"),
    `\x1b[2m${before}\x1b[22m\x1b[32mx<|im_end|>×0.1\x1b[39m`,
  );
});

Deno.test("control characters of a file are spelt out, tabs and newlines are not", () => {
  const text = show([{ role: "system", content: "\x1b[31m\t\x07\n\x9b" }, ...turns("Hi", "x")]);
  assertEquals(text.slice(0, 41), "<|im_start|>system\n\\x1b[31m\t\\x07\n\\x9b<|im");
});

Deno.test("each token comes with id, text and weight", () => {
  const example = exampleOf(turns("Hi", "🙂 b"));
  const views = tokenViews(example, source.tokenizer);
  assertEquals(views.map(({ id }) => id), [...example.tokens]);
  assertEquals(views.map(({ weight }) => weight), [...example.weights]);
  assertEquals(views[0], { id: 1, text: "<|im_start|>", weight: 0 });
  assertEquals(views.slice(-2).map(({ text }) => text), [" b", "<|im_end|>"]);
  assertEquals(views.some(({ text }) => text.includes("\ufffd")), true);
});
