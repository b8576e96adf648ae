// deno-lint-ignore-file camelcase -- names of the wire format
/** What a streamed chat said, put together again, to be kept before its last chunk goes out. */
import type { AnswerDelta } from "../../generate/answer.ts";
import type { ChatCompletion } from "../schema/chat.ts";
import type { ToolCallBody, ToolCallDelta } from "../schema/tools.ts";

type Choice = ChatCompletion["choices"][number];

interface Gathering {
  text: string;
  reasoning: string | undefined;
  readonly calls: Map<number, ToolCallBody>;
  finishReason: Choice["finish_reason"] | undefined;
  stopReason: AnswerDelta["stopReason"];
}

/**
 * Passes deltas on; before the last of them, all choices go to `keep`.
 * @param begin what stands before each answer
 */
export async function* keptDeltas(
  deltas: AsyncIterable<AnswerDelta>,
  { count, begin, keep }: {
    readonly count: number;
    readonly begin: string;
    readonly keep: (choices: Choice[]) => Promise<void>;
  },
): AsyncGenerator<AnswerDelta> {
  const samples = Array.from({ length: count }, (): Gathering => ({
    ...{ text: begin, reasoning: undefined, calls: new Map() },
    ...{ finishReason: undefined, stopReason: undefined },
  }));
  let running = count;
  for await (const delta of deltas) {
    const sample = samples[delta.index];
    if (sample !== undefined) read(sample, delta);
    if (delta.finishReason !== undefined && --running === 0) await keep(samples.map(toChoice));
    yield delta;
  }
}

function read(sample: Gathering, delta: AnswerDelta): void {
  const { text, reasoning, call, broken, finishReason, stopReason } = delta;
  sample.text += text;
  if (reasoning !== undefined) sample.reasoning = (sample.reasoning ?? "") + reasoning;
  if (call !== undefined) readCall(sample.calls, call);
  if (broken !== undefined) sample.calls.delete(broken);
  if (finishReason === undefined) return;
  sample.finishReason = finishReason;
  sample.stopReason = stopReason;
}

function readCall(calls: Gathering["calls"], { index, id, function: piece }: ToolCallDelta): void {
  const before = calls.get(index);
  calls.set(index, {
    id: id ?? before?.id ?? "",
    type: "function",
    function: {
      name: piece.name ?? before?.function.name ?? "",
      arguments: (before?.function.arguments ?? "") + piece.arguments,
    },
  });
}

function toChoice(sample: Gathering, index: number): Choice {
  const { text, reasoning, calls, finishReason, stopReason } = sample;
  const tool_calls = [...calls.values()];
  const some = tool_calls.length > 0;
  return {
    index,
    message: {
      role: "assistant",
      content: some || reasoning ? text || null : text,
      refusal: null,
      ...(reasoning !== undefined && { reasoning: reasoning || null }),
      ...(some && { tool_calls }),
    },
    logprobs: null,
    finish_reason: finishReason ?? "error",
    stop_reason: stopReason ?? null,
    token_ids: null,
  };
}
