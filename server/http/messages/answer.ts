/** A sample of the engine as a message: its blocks, why it ended, and what it cost. */
import { argumentsOf } from "../../../src/checkpoint/text/tools.ts";
import { ApiError } from "../../errors.ts";
import type { AnswerDelta, Sample } from "../../generate/answer.ts";
import { readCalls } from "../../generate/call_answer.ts";
import type { Calling } from "../../generate/tools.ts";
import type { UsageBody } from "../schema/common.ts";
import type { AnswerBlock, Message, MessageUsage } from "./schema.ts";

/** Tokens read from cache are none of the input's, as Anthropic counts. */
export function toUsage(usage: UsageBody): MessageUsage {
  const { cached_tokens } = usage.prompt_tokens_details;
  return {
    input_tokens: usage.prompt_tokens - cached_tokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached_tokens,
    output_tokens: usage.completion_tokens,
  };
}

type Stop = Pick<Message, "stop_reason" | "stop_sequence">;

/**
 * Why a message ended.
 * @throws {ApiError} 500 where it did not end by itself
 */
export function stopOf(
  { finishReason, stopReason }: Pick<AnswerDelta, "finishReason" | "stopReason">,
): Stop {
  switch (finishReason) {
    case "stop":
      return typeof stopReason === "string"
        ? { stop_reason: "stop_sequence", stop_sequence: stopReason }
        : { stop_reason: "end_turn", stop_sequence: null };
    case "length":
      return { stop_reason: "max_tokens", stop_sequence: null };
    case "tool_calls":
      return { stop_reason: "tool_use", stop_sequence: null };
    default:
      throw new ApiError(500, "The server ended this message before it was whole. Please retry.", {
        code: "internal_error",
        cause: finishReason,
      });
  }
}

export function thinkingBlock(thinking: string): AnswerBlock {
  return { type: "thinking", thinking, signature: "" };
}

/** What a whole sample says and uses, and why it ended. */
export function toContent(
  sample: Sample,
  calling: Calling | undefined,
): Stop & Pick<Message, "content"> {
  const { content, calls, finishReason } = calling === undefined
    ? { ...sample, content: sample.text, calls: [] }
    : readCalls(sample, calling);
  const said = content === "" || calls.length > 0 && content.trim() === "";
  const thought = sample.reasoning ?? "";
  const uses = calls.map(({ id, function: { name, arguments: json } }): AnswerBlock => ({
    ...{ type: "tool_use", id, name },
    input: { ...argumentsOf(json) },
  }));
  return {
    content: [
      ...(thought === "" ? [] : [thinkingBlock(thought)]),
      ...(said ? [] : [{ type: "text" as const, text: content }]),
      ...uses,
    ],
    ...stopOf({ finishReason, stopReason: sample.stopReason }),
  };
}
