// deno-lint-ignore-file camelcase -- the field names are the file format's
/** Training files: what is read, what is refused with which line and reason, what is only warned of. */
import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import {
  type Dataset,
  type DatasetOptions,
  lmExample,
  readDataset,
  readDatasetInTurns,
} from "../../../src/train/data/dataset.ts";
import { DatasetError } from "../../../src/train/data/faults.ts";
import { fileOf, templateSource, tinySource, turns } from "../sources.ts";

const source = tinySource({ tokenizer: "smollm", template: templateSource("chatml") });
const GOOD = { messages: turns("a", "b") };

function read(file: Uint8Array, options: Partial<DatasetOptions> = {}): Dataset {
  return readDataset(file, { source, maxContext: 512, ...options });
}

function errorOf(file: Uint8Array, options: Partial<DatasetOptions> = {}): DatasetError {
  return assertThrows(() => read(file, options), DatasetError);
}

/** The reason of a line that stands second, after a good one. */
function reasonOf(line: unknown, first: unknown = GOOD): string {
  const { faults, total } = errorOf(fileOf(first, line));
  assertEquals([total, faults[0]?.line], [1, 2], JSON.stringify(line));
  return faults[0]?.reason ?? "";
}

function message(fields: Readonly<Record<string, unknown>>): unknown {
  return { messages: [fields, { role: "assistant", content: "b" }] };
}

function answer(fields: Readonly<Record<string, unknown>>): unknown {
  return { messages: [...turns("a"), { role: "assistant", content: "b", ...fields }] };
}

Deno.test("a broken line is named by number and reason", () => {
  const cases: readonly (readonly [unknown, string])[] = [
    ["{", "it is not JSON: "],
    ["[", "each object should be on one line"],
    ["[1]", "it is a list, it should be a JSON object"],
    ["null", "it is null, it should be a JSON object"],
    [{}, "it has no fields; it should have 'messages', or 'prompt' and 'completion'"],
    [{ input: 1, mesages: [] }, "it has the fields 'input', 'mesages'; it should have 'messages'"],
    [{ ...GOOD, prompt: "a" }, "it has both 'messages' and 'prompt' or 'completion'"],
    [{ prompt: "a", completion: "b" }, "a prompt with a completion, but line 1 is a conversation"],
    [{ messages: "hi" }, "messages is 'hi', it should be a list"],
    [{ messages: [] }, "messages is empty"],
    [{ messages: ["hi"] }, "messages[0] is 'hi', it should be an object"],
    [{ messages: turns("a") }, "the last message is from 'user', it should be the assistant's"],
    [message({ role: "usr", content: "a" }), "messages[0].role is 'usr', it should be one of"],
    [message({ content: "a" }), "messages[0].role is missing, it should be one of system, dev"],
    [message({ role: "user" }), "messages[0].content is missing, it should be a string or"],
    [message({ role: "user", content: null }), "messages[0].content is missing"],
    [message({ role: "user", content: 5 }), "messages[0].content is 5, it should be a string"],
    [message({ role: "user", content: [] }), "messages[0].content is an empty list"],
    [message({ role: "user", content: ["a"] }), "messages[0].content[0] is 'a', it should be an"],
    [
      message({ role: "user", content: [{ type: "image_url" }] }),
      "messages[0].content[0].type is 'image_url', it should be 'text'",
    ],
    [
      message({ role: "user", content: [{ type: "text" }] }),
      "messages[0].content[0].text is missing, it should be a string",
    ],
    [
      message({ role: "user", content: "a", weight: 1 }),
      "messages[0].weight is 1 for the role 'user': only assistant messages carry loss",
    ],
    [answer({ weight: 2 }), "messages[1].weight is 2, it should be a number from 0 to 1"],
    [answer({ weight: -0.1 }), "messages[1].weight is -0.1"],
    [answer({ weight: "1" }), "messages[1].weight is '1'"],
    [answer({ weight: true }), "messages[1].weight is true"],
    [answer({ weight: 0 }), "no token carries loss: every assistant message has weight 0"],
    [answer({ wieght: 0 }), "messages[1] has the unknown field 'wieght'; known are role, content"],
    [
      answer({ tool_calls: [{}] }),
      "messages[1].tool_calls[0].function is missing, it should be an object",
    ],
    [
      answer({ tool_calls: [{ function: { name: "f", arguments: "[1]" } }] }),
      "messages[1].tool_calls[0].function.arguments is '[1]', it should be the text of a JSON object",
    ],
    [
      message({ role: "user", content: "a", tool_calls: [{ function: { name: "f" } }] }),
      "messages[0].tool_calls is of the role 'user'",
    ],
    [{ ...GOOD, tools: {} }, "tools is an object, it should be a list"],
    [{ ...GOOD, tools: [{ type: "search" }] }, "tools[0].type is 'search'"],
    [{ ...GOOD, tools: [{ function: {} }] }, "tools[0].function.name is missing"],
    [
      { ...GOOD, tools: [{ function: { name: "f", parameters: [] } }] },
      "tools[0].function.parameters is a list",
    ],
    [answer({ function_call: { name: "f" } }), "messages[1].function_call cannot be trained"],
    [answer({ refusal: "no" }), "messages[1].refusal cannot be trained"],
    [
      answer({ content: "a\ud83d" }),
      "messages[1].content has half a character (\\ud83d) at position 2",
    ],
    [
      message({ role: "user", content: [{ type: "text", text: "\udc4d" }] }),
      "messages[0].content[0].text has half a character (\\udc4d)",
    ],
    [
      { messages: [{ role: "tool", content: "a", tool_call_id: "\ud83d" }, ...turns("a", "b")] },
      "messages[0].tool_call_id has half a character (\\ud83d)",
    ],
  ];
  for (const [line, wanted] of cases) {
    const reason = reasonOf(line);
    assert(reason.includes(wanted), `${JSON.stringify(line)} gives: ${reason}`);
  }
  const plain = { prompt: "a", completion: "b" };
  assertMatch(reasonOf({ prompt: "a" }, plain), /^completion is missing, it should be a string$/);
  assertMatch(reasonOf({ prompt: [], completion: "b" }, plain), /^prompt is a list/);
  assertMatch(
    reasonOf({ ...plain, prompt: "a\udc4d\ud83d" }, plain),
    /^prompt has half a character/,
  );
  assertMatch(reasonOf({ ...plain, completion: "\ud83d " }, plain), /^completion has half a char/);
  assertMatch(reasonOf(GOOD, plain), /a conversation, but line 1 is a prompt with a completion/);
});

Deno.test("a line that is no UTF-8 is broken, and no other", () => {
  const good = fileOf(GOOD);
  const file = new Uint8Array([...good, 0x0a, 0x7b, 0xff, 0x7d, 0x0a, ...good]);
  const { faults, total } = errorOf(file);
  assertEquals([faults, total], [[{ line: 2, reason: "it is not UTF-8" }], 1]);
});

Deno.test("the first ten broken lines are told, and how many there are", () => {
  const lines = Array.from({ length: 40 }, (_, i) => i % 3 === 0 ? "no" : GOOD);
  const { faults, total, message } = errorOf(fileOf(...lines));
  assertEquals(faults.map(({ line }) => line), [1, 4, 7, 10, 13, 16, 19, 22, 25, 28]);
  assertEquals(total, 14);
  assertMatch(message, /^14 of its 40 lines are broken\nline 1: it is not JSON/);
  assertMatch(message, /\nand 4 more$/);
});

Deno.test("one broken line at the end is enough to train on nothing", () => {
  const lines = Array.from({ length: 50 }, () => GOOD);
  const error = errorOf(fileOf(...lines, answer({ weight: 7 })));
  assertEquals(error.faults.map(({ line }) => line), [51]);
  assertInstanceOf(error, Error);
});

Deno.test("an empty file is refused, and one of blank lines too", () => {
  for (const text of ["", "\n", "\r\n \t\n\n", "\ufeff"]) {
    const error = errorOf(new TextEncoder().encode(text));
    assertEquals(error.message, "it is empty: there are no lines to train on");
    assertEquals(error.faults, []);
  }
});

Deno.test("byte order mark, carriage returns and blank lines change nothing but line numbers", () => {
  const line = JSON.stringify(GOOD);
  const plain = read(fileOf(GOOD, GOOD));
  const odd = read(new TextEncoder().encode(`\ufeff${line}\r\n\r\n  \n${line}\r\n`));
  assertEquals(odd.examples.map(({ line }) => line), [1, 4]);
  assertEquals(odd.examples.map(({ tokens }) => tokens), plain.examples.map((row) => row.tokens));
  assertEquals(odd.warnings, []);
});

Deno.test("what is ignored is warned of once, with its first line", () => {
  const tools = { ...GOOD, tools: [], parallel_tool_calls: false, functions: null };
  const named = message({ role: "user", content: "a", name: "Ann" });
  const { warnings, examples } = read(fileOf(GOOD, tools, named, tools, named, tools));
  assertEquals(warnings, [
    "'parallel_tool_calls' is ignored (3 lines, the first is line 2)",
    "a message's 'name' is ignored (2 lines, the first is line 3)",
  ]);
  for (const { tokens } of examples) assertEquals(tokens, examples[0]?.tokens);
});

Deno.test("text parts are joined, a developer is the system, nulls are absent", () => {
  const parts = [{ type: "text", text: "a" }, { type: "text", text: "b" }];
  const [odd] = read(fileOf({
    messages: [
      { role: "developer", content: "s", name: null },
      { role: "user", content: parts },
      { role: "assistant", content: [{ type: "text", text: "c" }], weight: null, tool_calls: [] },
    ],
  })).examples;
  const [plain] = read(fileOf({
    messages: [{ role: "system", content: "s" }, ...turns("a\nb", "c")],
  })).examples;
  assertEquals(odd, plain);
});

Deno.test("a tool's message is context where the template takes it", () => {
  const messages = [...turns("a"), { role: "tool", content: "42", tool_call_id: "x" }, {
    role: "assistant",
    content: "b",
  }];
  const [row] = read(fileOf({ messages })).examples;
  assertMatch(
    source.tokenizer.decode([...row?.tokens ?? []]),
    /<\|im_start\|>tool\n42<\|im_end\|>/,
  );
});

Deno.test("a row that is too long is refused with its tokens", () => {
  const [row] = read(fileOf(GOOD)).examples;
  const length = row?.tokens.length ?? 0;
  assertEquals(read(fileOf(GOOD), { maxContext: length }).examples.length, 1);
  const { faults } = errorOf(fileOf(GOOD), { maxContext: length - 1 });
  assertEquals(faults, [{
    line: 1,
    reason: `it has ${length} tokens, at most ${length - 1} fit; shorten it, or allow truncation`,
  }]);
});

Deno.test("truncation cuts the end, and tells how many rows and tokens it cost", () => {
  const long = { messages: turns("a", "one two three four five six seven") };
  const whole = read(fileOf(GOOD, long, long)).examples;
  const maxContext = (whole[1]?.tokens.length ?? 0) - 3;
  assertGreater(maxContext, whole[0]?.tokens.length ?? 0);
  const cut = read(fileOf(GOOD, long, long), { maxContext, longRows: "truncate" });
  assertEquals(cut.examples[0], whole[0]);
  assertEquals(cut.examples[1]?.tokens, whole[1]?.tokens.slice(0, -3));
  assertEquals(cut.examples[1]?.weights, whole[1]?.weights.slice(0, -3));
  assertEquals(cut.warnings, [
    `2 rows are cut at ${maxContext} tokens, which loses 6 tokens (the first is line 2)`,
  ]);
});

Deno.test("truncation that leaves no loss is refused", () => {
  const [row] = read(fileOf(GOOD)).examples;
  const first = row?.weights.findIndex((weight) => weight > 0) ?? 0;
  const cut = (maxContext: number) =>
    read(fileOf(GOOD), { maxContext, longRows: "truncate" }).examples[0];
  assertEquals(cut(first + 1)?.weights.filter((weight) => weight > 0).length, 1);
  assertThrows(() => cut(first), DatasetError, `its first token with loss is number ${first + 1}`);
});

Deno.test("a context that is none is refused", () => {
  for (const maxContext of [1, 0.5, NaN]) {
    assertThrows(
      () => read(fileOf(GOOD), { maxContext }),
      RangeError,
      `maxContext is ${maxContext}`,
    );
  }
});

Deno.test("reading in turns gives the same, and leaves the event loop its turns", async () => {
  const lines = Array.from({ length: 300 }, (_, i) => ({
    messages: turns("word ".repeat(60) + i, "b".repeat(i % 50)),
  }));
  const file = fileOf(...lines);
  let turnsTaken = 0;
  let reading = true;
  const other = (async () => {
    while (reading) {
      turnsTaken++;
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  })();
  const read = await readDatasetInTurns(piecesOf(file, 7), { source, maxContext: 512 });
  reading = false;
  await other;
  assertEquals(read, readDataset(file, { source, maxContext: 512 }));
  assertGreater(turnsTaken, 2);
  await assertRejects(
    () => readDatasetInTurns(piecesOf(fileOf("no"), 7), { source, maxContext: 512 }),
    DatasetError,
    "its only line is broken",
  );
});

/** A file as it comes from a store: in pieces that end anywhere. */
async function* piecesOf(file: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < file.length; at += size) yield file.subarray(at, at + size);
}

Deno.test("lines are the same however a file is cut into pieces", async () => {
  const text = `\ufeff${JSON.stringify({ prompt: "né", completion: "👍" })}\r\n\n \r\nno\n{}`;
  const file = new TextEncoder().encode(text);
  const options = { source, maxContext: 512 };
  const { message } = assertThrows(() => readDataset(file, options), DatasetError);
  for (const size of [1, 2, 3, 5, 16, file.length]) {
    const read = () => readDatasetInTurns(piecesOf(file, size), options);
    assertEquals((await assertRejects(read, DatasetError)).message, message, `pieces of ${size}`);
  }
});

Deno.test("a file of 200 MB is read in a few megabytes, and a line of 200 MB is refused", async () => {
  const lines = new TextEncoder().encode(`${JSON.stringify({ prompt: "a".repeat(990) })}\n`);
  const line = new Uint8Array(1000).fill(97);
  const cases = [[lines, /completion is missing/], [line, /longer than 16 MiB/]] as const;
  for (const [piece, reason] of cases) {
    let peak = 0;
    const memory = () => {
      const { heapUsed, external } = Deno.memoryUsage();
      return heapUsed + external;
    };
    const before = memory();
    const pieces = async function* () {
      for (let i = 0; i < 200_000; i++) {
        if (i % 1000 === 0) peak = Math.max(peak, memory() - before);
        yield piece;
      }
    };
    const error = await assertRejects(
      () => readDatasetInTurns(pieces(), { source, maxContext: 512 }),
      DatasetError,
    );
    assertMatch(error.faults[0]?.reason ?? "", reason);
    assertLess(peak, 100e6);
  }
});

Deno.test("where answers are optional a row may be a prompt, as inference has it, without loss", () => {
  const asked = { messages: turns("a", "b", "c") };
  const { examples } = read(fileOf(GOOD, asked), { answers: "optional" });
  const text = examples.map(({ tokens }) => source.tokenizer.decode([...tokens]));
  assert(text[1].endsWith("c<|im_end|>\n<|im_start|>assistant\n"), text[1]);
  assertEquals(examples.map(({ weights }) => weights.some((weight) => weight > 0)), [true, false]);
  const [prompt] = read(fileOf({ prompt: "ab" }), { answers: "optional" }).examples;
  assertEquals([...prompt.tokens], source.tokenizer.encode("ab"));
  assertMatch(reasonOf(asked), /the last message is from 'user'/);
  const faults = (line: unknown, maxContext = 512) =>
    errorOf(fileOf(line), { answers: "optional", longRows: "truncate", maxContext }).message;
  assertMatch(faults({ prompt: "" }), /its prompt is empty/);
  assertMatch(faults({ prompt: "a b c d e f g" }, 3), /a prompt of \d+ tokens, which is not cut/);
  assertMatch(faults({ messages: [] }), /messages is empty/);
});

Deno.test("reading in turns ends when it is told to", async () => {
  const reason = new DOMException("enough", "AbortError");
  await assertRejects(
    () =>
      readDatasetInTurns(piecesOf(fileOf(GOOD), 7), {
        source,
        maxContext: 512,
        signal: AbortSignal.abort(reason),
      }),
    DOMException,
    "enough",
  );
});

Deno.test("every token of general text but the first carries loss", () => {
  const example = lmExample([5, 6, 7], 3);
  assertEquals([...example.tokens], [5, 6, 7]);
  assertEquals([...example.weights], [0, 1, 1]);
  assertEquals(example.line, 3);
  assertEquals(lmExample([], 1).weights.length, 0);
});
