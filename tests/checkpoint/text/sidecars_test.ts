/** The files beside a model: special tokens and chat templates from wherever they are. */

import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { chooseModelFiles } from "../../../src/checkpoint/fetch/model_files.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { fixture, withDirectory } from "../fixtures.ts";

/** Opens a copy of the mistral fixture with these files in place of its own. */
async function withFiles(
  files: Readonly<Record<string, unknown>>,
  body: (opened: Checkpoint) => void,
): Promise<void> {
  await withDirectory(async (directory) => {
    for (const { name } of Deno.readDirSync(fixture("mistral"))) {
      await Deno.copyFile(`${fixture("mistral")}/${name}`, `${directory}/${name}`);
    }
    for (const [name, content] of Object.entries(files)) {
      const text = typeof content === "string" ? content : JSON.stringify(content);
      await Deno.writeTextFile(`${directory}/${name}`, text);
    }
    using checkpoint = await openCheckpoint(directory);
    body(checkpoint);
  });
}

const object = (...entries: (readonly [string, unknown])[]) => Object.fromEntries(entries);
const SHOW = "[{{ bos_token }}{{ eos_token }}]";

Deno.test("a bos_token that only special_tokens_map.json has reaches the template", async () => {
  const files = {
    "tokenizer_config.json": object(["chat_template", SHOW], ["eos_token", "<|im_end|>"]),
    "special_tokens_map.json": object(["bos_token", { content: "<|im_start|>" }]),
  };
  await withFiles(files, ({ chatTemplate }) => {
    assertEquals(chatTemplate?.render([]), "[<|im_start|><|im_end|>]");
  });
});

Deno.test("special_tokens_map.json wins over an old tokenizer_config.json, not a new one", async () => {
  const map = object(["bos_token", "<map>"], ["eos_token", "<|im_end|>"]);
  const old = object(["chat_template", SHOW], ["bos_token", "<own>"]);
  await withFiles(
    { "tokenizer_config.json": old, "special_tokens_map.json": map },
    ({ chatTemplate }) => assertEquals(chatTemplate?.render([]), "[<map><|im_end|>]"),
  );
  await withFiles(
    {
      "tokenizer_config.json": { ...old, ...object(["added_tokens_decoder", {}]) },
      "special_tokens_map.json": map,
    },
    ({ chatTemplate }) => assertEquals(chatTemplate?.render([]), "[<own><|im_end|>]"),
  );
});

Deno.test("a template with an unsupported tag leaves the model to complete, and says why", async () => {
  const files = {
    "tokenizer_config.json": object(["chat_template", "{% include 'other' %}"]),
  };
  await withFiles(files, ({ chatTemplate, tokenizer, warnings }) => {
    assertEquals(tokenizer.encode("still here").length > 1, true);
    assertMatch(chatTemplate?.fault ?? "", /^Cannot read the chat template: .*include/);
    assertThrows(() => chatTemplate?.render([]), TypeError, "include");
    assertEquals(warnings, [`chat is refused, completions work: ${chatTemplate?.fault}`]);
  });
});

Deno.test("chat_template.json is read where nothing newer has a template", async () => {
  const json = { "chat_template.json": object(["chat_template", "json"]) };
  await withFiles(json, ({ chatTemplate }) => assertEquals(chatTemplate?.render([]), "json"));
  await withFiles(
    { ...json, "chat_template.jinja": "jinja" },
    ({ chatTemplate }) => assertEquals(chatTemplate?.render([]), "jinja"),
  );
});

Deno.test("of named templates the one called default counts; without it people are told", async () => {
  const named = (name: string) =>
    object(["chat_template", [{ name, template: `I am ${name}` }, { name: "rag", template: "" }]]);
  await withFiles({ "tokenizer_config.json": named("default") }, ({ chatTemplate }) => {
    assertEquals(chatTemplate?.render([]), "I am default");
  });
  await withFiles({ "tokenizer_config.json": named("tools") }, ({ chatTemplate, warnings }) => {
    const fault = "none of its chat templates (tools, rag) is named 'default'";
    assertThrows(() => chatTemplate?.render([]), TypeError, fault);
    assertEquals(warnings, [`chat is refused, completions work: ${fault}`]);
  });
});

Deno.test("of named templates the one called tool_use is for requests with tools", async () => {
  const templates = ["default", "tool_use"].map((name) => ({ name, template: `I am ${name}` }));
  const json = { "tokenizer_config.json": object(["chat_template", templates]) };
  await withFiles(json, ({ chatTemplate }) => {
    assertEquals(chatTemplate?.render([]), "I am default");
    assertEquals(chatTemplate?.render([], { tools: [] }), "I am default");
    assertEquals(chatTemplate?.render([], { tools: [{}] }), "I am tool_use");
    assertEquals(chatTemplate?.toolSource, "I am tool_use");
  });
});

Deno.test("the sidecar files are fetched with a model", () => {
  const listed = [
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "chat_template.json",
    "chat_template.jinja",
    "README.md",
  ];
  const wanted = listed.filter((name) => name !== "README.md").sort();
  assertEquals(chooseModelFiles("here", listed).names.toSorted(), wanted);
});
