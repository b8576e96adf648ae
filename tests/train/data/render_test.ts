/**
 * Rendered examples beside transformers' tokens and masks, and beside what the server makes of the
 * same conversation for inference.
 */
import { assert, assertEquals, assertMatch, assertNotEquals, assertThrows } from "@std/assert";
import { chatTemplate } from "../../../src/checkpoint/text/chat_template.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { resolveModel } from "../../../src/checkpoint/fetch/resolve.ts";
import { readDataset } from "../../../src/train/data/dataset.ts";
import { DatasetError } from "../../../src/train/data/faults.ts";
import type { Example } from "../../../src/train/gradients/model.ts";
import type { TextSource } from "../../../src/train/data/render.ts";
import { encodeChat } from "../../../server/generate/plan.ts";
import chats from "../../fixtures/train/chats.json" with { type: "json" };
import { fakeContext } from "../../server/fake_context.ts";
import { fileOf, templateSource, tinySource, turns } from "../sources.ts";

type Chat = (typeof chats)[number];

/** A template that shows reasoning in the last answer alone, as Qwen3's does. */
const FORGETFUL = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}" +
  "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n' }}{% endif %}" +
  "{{ m.content + '<|im_end|>\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

function examplesOf(source: TextSource, ...lines: readonly unknown[]): readonly Example[] {
  return readDataset(fileOf(...lines), { source, maxContext: 8192 }).examples;
}

function reasonOf(source: TextSource, line: unknown): string {
  const error = assertThrows(() => examplesOf(source, line), DatasetError);
  return error.faults[0]?.reason ?? "";
}

/** Tokens before the first that carries loss. */
function promptOf({ tokens, weights }: Example): number[] {
  return [...tokens.subarray(0, weights.findIndex((weight) => weight > 0))];
}

/** Tokens that carry loss. */
function answerOf({ tokens, weights }: Example): number[] {
  return [...tokens].filter((_, i) => (weights[i] ?? 0) > 0);
}

async function serverPrompt(
  source: TextSource,
  messages: readonly unknown[],
): Promise<readonly number[]> {
  const { model } = fakeContext();
  const { tokenizer, chatTemplate } = source;
  const { signal } = new AbortController();
  const room = { maxContext: Infinity, maxTokens: undefined, caller: { tenant: "shire", signal } };
  return await encodeChat(
    { ...model, tokenizer, chatTemplate },
    { messages: messages as never },
    room,
  );
}

async function withDefault(body: (source: TextSource) => void | Promise<void>): Promise<void> {
  using checkpoint = await openCheckpoint(await resolveModel(undefined));
  await body(checkpoint);
}

/** One row for one chat where transformers' own prompts go on from each other. */
function checkChat(source: TextSource, { messages, ids, mask, prompts }: Chat): void {
  const rows = examplesOf(source, { messages });
  const text = JSON.stringify(messages);
  const [row] = rows;
  assert(rows.length === 1 && row !== undefined, `${rows.length} rows for ${text}`);
  const end = mask.lastIndexOf(1) + 1;
  assertEquals([...row.tokens], ids.slice(0, end), text);
  assertEquals([...row.weights], mask.slice(0, end), text);
  for (const prompt of prompts) assertEquals([...row.tokens.slice(0, prompt.length)], prompt, text);
}

Deno.test("the default model's examples have transformers' tokens, prompts and masks", async () => {
  await withDefault((source) => {
    const cases = chats.filter(({ tokenizer }) => tokenizer === "default");
    assertEquals(cases.length, 6);
    for (const one of cases) checkChat(source, one);
  });
});

Deno.test("other tokenizers and templates give transformers' tokens and masks too", () => {
  const cases = chats.filter(({ tokenizer }) => tokenizer !== "default");
  assertEquals(cases.length, 10);
  for (const one of cases) {
    const { tokenizer, template = "", special } = one;
    checkChat(tinySource({ tokenizer, template, ...(special && { special }) }), one);
  }
});

Deno.test("an example's prompt is what the server encodes for inference", async () => {
  await withDefault(async (source) => {
    const odd = ["\n\n\nYes", "\n", " ", "  x", "\r\n", "'s", "1 2", "\u00a0", "\u0301", "🙂"];
    for (const answer of odd) {
      const messages = [
        { role: "developer", content: "Be brief." },
        ...turns(
          `Q ${answer}`,
          answer,
          `${answer} again?`,
          answer,
        ),
      ];
      const rows = examplesOf(source, { messages });
      const prompts = [
        await serverPrompt(source, messages.slice(0, 2)),
        await serverPrompt(
          source,
          messages.slice(0, 4),
        ),
      ];
      const [first, last] = [rows[0], rows.at(-1)];
      assert(first !== undefined && last !== undefined);
      assertEquals(promptOf(first), prompts[0]);
      const [, whole = []] = prompts;
      assertEquals([...last.tokens.subarray(0, whole.length)], whole);
      for (const row of rows) {
        const text = source.tokenizer.decode(answerOf(row));
        assertEquals(text, `${answer}<|im_end|>`.repeat(rows.length === 1 ? 2 : 1));
      }
    }
  });
});

Deno.test("an answer whose first token would reach into the prompt keeps the prompt whole", async () => {
  await withDefault(async (source) => {
    const messages = turns("Go on", "\n\n\nYes");
    const [row] = examplesOf(source, { messages });
    const whole = source.chatTemplate?.render(messages) ?? "";
    const together = source.tokenizer.encode(whole, { addSpecialTokens: false });
    assertNotEquals([...row?.tokens ?? []], together.slice(0, row?.tokens.length));
    assertEquals(promptOf(row as Example), await serverPrompt(source, messages.slice(0, 1)));
  });
});

Deno.test("a prompt with a completion is what completions encode, then the end token", async () => {
  await withDefault((source) => {
    for (
      const [prompt, completion] of [["2 + 2 =", " 4"], ["A: ", "yes"], ["", "Once upon"], [
        "x",
        "",
      ]]
    ) {
      const [row] = examplesOf(source, { prompt, completion });
      const before = source.tokenizer.encode(prompt ?? "");
      assertEquals([...row?.tokens.subarray(0, before.length) ?? []], before);
      assertEquals(
        source.tokenizer.decode([...row?.tokens ?? []]),
        `${prompt}${completion}<|im_end|>`,
      );
      const weights = [...row?.tokens ?? []].map((_, i) => i > 0 && i >= before.length ? 1 : 0);
      assertEquals([...row?.weights ?? []], weights);
    }
  });
});

Deno.test("a completion's prompt has the special tokens that completions give it", () => {
  const source = tinySource({ tokenizer: "llama-bpe" });
  const [row] = examplesOf(source, { prompt: "Hello", completion: " there" });
  assertEquals(promptOf(row as Example), source.tokenizer.encode("Hello"));
  assertEquals(row?.tokens[0], 0);
  assertEquals(answerOf(row as Example), [
    ...source.tokenizer.encode(" there", { addSpecialTokens: false }),
    2,
  ]);
});

Deno.test("a SentencePiece answer is tokenised after its prompt, without a space of its own", () => {
  const special = Object.fromEntries([["bos_token", "<s>"], ["eos_token", "</s>"]]);
  const source = tinySource({ tokenizer: "spm", template: templateSource("strict"), special });
  const [row] = examplesOf(source, { messages: turns("Hello", "world") });
  const { tokenizer } = source;
  assertEquals(tokenizer.decode([...row?.tokens ?? []]), "<s> [INST] Hello [/INST]world</s>");
  assertEquals(answerOf(row as Example).at(-1), 2);
});

Deno.test("a completion that ends with the end token gets no second one", () => {
  const source = tinySource({ tokenizer: "smollm" });
  const [row] = examplesOf(source, { prompt: "a", completion: "b<|im_end|>" });
  assertEquals(answerOf(row as Example).filter((id) => id === 2).length, 1);
});

Deno.test("weights choose which answers count, and how much", () => {
  const source = tinySource({ tokenizer: "smollm", template: templateSource("chatml") });
  const [first, second, third] = turns("a", "b", "c", "d", "e", "f").filter((_, i) => i % 2 === 1);
  const messages = [
    ...turns("a"),
    { ...first, weight: 0 },
    ...turns("c"),
    { ...second, weight: 0.5 },
    ...turns("e"),
    { ...third, weight: 1 },
  ];
  const [row] = examplesOf(source, { messages });
  const loss = [...row?.tokens ?? []].map((
    id,
    i,
  ) => [source.tokenizer.tokenText(id), row?.weights[i]])
    .filter(([, weight]) => weight !== 0);
  assertEquals(loss, [["d", 0.5], ["<|im_end|>", 0.5], ["f", 1], ["<|im_end|>", 1]]);
});

Deno.test("a row ends with its last token of loss: later turns of weight 0 cost nothing", () => {
  const source = tinySource({ tokenizer: "smollm", template: templateSource("chatml") });
  const ignored = { role: "assistant", content: "d", weight: 0 };
  const [short] = examplesOf(source, { messages: turns("a", "b") });
  const [long] = examplesOf(source, { messages: [...turns("a", "b", "c"), ignored] });
  assertEquals(long, short);
  assertEquals(short?.tokens.at(-1), 2);
});

Deno.test("a template that forgets reasoning gives each answer the prompt of inference", async () => {
  const source = tinySource({ tokenizer: "smollm", template: FORGETFUL });
  const messages = turns("a", "b", "c", "d");
  const { examples, warnings } = readDataset(fileOf({ messages }), { source, maxContext: 512 });
  assertEquals(examples.map(promptOf), [
    await serverPrompt(source, messages.slice(0, 1)),
    await serverPrompt(source, messages.slice(0, 3)),
  ]);
  assertEquals(examples.map((row) => source.tokenizer.decode(answerOf(row))), [
    "<think>\nb<|im_end|>",
    "<think>\nd<|im_end|>",
  ]);
  assertEquals(examples.map(({ line }) => line), [1, 1]);
  assertMatch(warnings.join(), /a row of its own \(line 1\)/);
});

Deno.test("a template whose prompt is no beginning of the answered conversation is refused", () => {
  const source = tinySource({
    tokenizer: "smollm",
    template: FORGETFUL.replace("assistant\n' }}{% endif %}", "assistant\n<think>' }}{% endif %}")
      .replace("{{ '<think>\n' }}", ""),
  });
  const reason = reasonOf(source, { messages: turns("a", "b") });
  assertEquals(
    reason,
    "messages[1] cannot be trained: where the chat template's prompt goes on with '<think>', " +
      "it renders the answered conversation with 'b<|im_end|>\n'",
  );
});

Deno.test("a template's refusal is the line's fault", () => {
  const source = tinySource({ tokenizer: "smollm", template: templateSource("strict") });
  const messages = [...turns("a"), ...turns("b", "c")];
  assertMatch(reasonOf(source, { messages }), /Roles must alternate/);
});

Deno.test("an answer to nothing is refused, and serves as context at weight 0", async () => {
  await withDefault((source) => {
    const greeting = { role: "assistant", content: "Hello!" };
    const rest = turns("Hi", "How are you?");
    assertMatch(
      reasonOf(source, { messages: [greeting, ...rest] }),
      /^messages\[0\] is the assistant's, but there is nothing before it/,
    );
    const [row] = examplesOf(source, { messages: [{ ...greeting, weight: 0 }, ...rest] });
    assertEquals(source.tokenizer.decode(answerOf(row as Example)), "How are you?<|im_end|>");
  });
});

Deno.test("a template without an end token trains the whole answer, and a warning says so", () => {
  const template = "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}" +
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";
  const source = tinySource({ tokenizer: "smollm", template });
  const file = fileOf({ messages: turns("a", "b", "c", "d") });
  const { examples: [row], warnings } = readDataset(file, { source, maxContext: 512 });
  assertEquals(source.tokenizer.decode(answerOf(row as Example)), "b\nd\n");
  assertMatch(warnings.join(), /ends no answer with an end token .* \(line 1\)/);
});

Deno.test("an end token within an answer gets a warning", () => {
  const source = tinySource({ tokenizer: "smollm", template: templateSource("chatml") });
  const file = fileOf({ messages: turns("a", "b<|im_end|>c") });
  const { examples: [row], warnings } = readDataset(file, { source, maxContext: 512 });
  assertEquals(source.tokenizer.decode(answerOf(row as Example)), "b<|im_end|>c<|im_end|>");
  assertMatch(warnings.join(), /end token within it/);
});

Deno.test("conversations need a chat template, completions do not", () => {
  const source = tinySource({ tokenizer: "smollm" });
  const error = assertThrows(() => examplesOf(source, { messages: turns("a", "b") }), TypeError);
  assertMatch(error.message, /tiny has no chat template/);
  assertEquals(examplesOf(source, { prompt: "a", completion: "b" }).length, 1);
});

Deno.test("a chat template that cannot be read refuses conversations with its reason", () => {
  const source = {
    ...tinySource({ tokenizer: "smollm" }),
    chatTemplate: chatTemplate("{% include 'x' %}", {}),
  };
  const error = assertThrows(() => examplesOf(source, { messages: turns("a", "b") }), TypeError);
  assertMatch(error.message, /^Cannot train on conversations with tiny: .*include/);
  assertEquals(examplesOf(source, { prompt: "a", completion: "b" }).length, 1);
});

Deno.test("a line with a token that the model has no row for is refused by its number", () => {
  const tiny = tinySource({ tokenizer: "smollm" });
  const source = { ...tiny, config: { ...tiny.config, vocabSize: 700 } };
  const error = assertThrows(
    () =>
      examplesOf(source, { prompt: "a", completion: "b" }, { prompt: "", completion: "<think>" }),
    DatasetError,
  );
  assertMatch(error.message, /line 2: it has the token '<think>' with the id 700/);
});
