// deno-lint-ignore-file camelcase -- names of the wire format
/** Streamed chats put together again. */
import { assertEquals } from "@std/assert";
import { keptDeltas } from "../../../../server/http/chats/gathered.ts";
import type { AnswerDelta } from "../../../../server/generate/answer.ts";

function delta(index: number, more: Partial<AnswerDelta>): AnswerDelta {
  return {
    ...{ index, text: "", tokens: [], logprobs: undefined },
    ...{ finishReason: undefined, stopReason: undefined, ...more },
  };
}

function call(index: number, id: string): Partial<AnswerDelta> {
  return { call: { index, id, type: "function", function: { name: "f", arguments: "" } } };
}

function piece(index: number, text: string): Partial<AnswerDelta> {
  return { call: { index, function: { arguments: text } } };
}

Deno.test("texts and calls are whole before the last delta goes out; a broken call is none", async () => {
  const deltas = [
    delta(0, { text: "a", reasoning: "so" }),
    delta(0, { reasoning: " far" }),
    delta(1, call(0, "one")),
    delta(1, piece(0, '{"x":')),
    delta(0, { text: "b", finishReason: "stop", stopReason: "!" }),
    delta(1, piece(0, "1}")),
    delta(1, call(1, "two")),
    delta(1, piece(1, "{")),
    delta(1, { text: "<call>{", broken: 1 }),
    delta(1, { finishReason: "tool_calls" }),
  ];
  async function* stream() {
    for (const one of deltas) yield await Promise.resolve(one);
  }
  const seen: unknown[] = [];
  const options = {
    ...{ count: 2, begin: ">" },
    keep: (choices: unknown) => {
      seen.push(choices);
      return Promise.resolve();
    },
  };
  const told: AnswerDelta[] = [];
  for await (const one of keptDeltas(stream(), options)) {
    told.push(one);
    assertEquals(seen.length, told.length === deltas.length ? 1 : 0);
  }
  assertEquals(told, deltas);
  const rest = { logprobs: null, token_ids: null };
  const calls = [{ id: "one", type: "function", function: { name: "f", arguments: '{"x":1}' } }];
  const said = { role: "assistant", refusal: null };
  assertEquals(seen, [[
    {
      index: 0,
      message: { ...said, content: ">ab", reasoning: "so far" },
      finish_reason: "stop",
      stop_reason: "!",
      ...rest,
    },
    {
      ...{ index: 1, message: { ...said, content: "><call>{", tool_calls: calls } },
      ...{ finish_reason: "tool_calls", stop_reason: null, ...rest },
    },
  ]]);
});
