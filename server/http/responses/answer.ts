/** A response as a whole: what it was asked for, how it ended, and what it cost. */
import { stringOf } from "../../../src/checkpoint/text/prompt.ts";
import { unixSeconds } from "../../../src/util/time.ts";
import type { ServedModel } from "../../context.ts";
import { ApiError } from "../../errors.ts";
import type { AnswerDelta } from "../../generate/answer.ts";
import { samplingBody } from "../../generate/plan.ts";
import type { UsageBody } from "../schema/common.ts";
import type { ResponseBody, ResponseUsage } from "./answer_schema.ts";
import { conversationId } from "./input.ts";
import type { OutputItem } from "./items.ts";
import type { ResponseRequest } from "./schema.ts";

/** A response that has begun. */
export function begunResponse(
  body: ResponseRequest,
  { id, model, store, sampling }: Pick<ResponseBody, "id" | "model" | "store"> & {
    readonly sampling: ServedModel["sampling"];
  },
): ResponseBody {
  const defaults = samplingBody(sampling);
  const conversation = conversationId(body.conversation);
  return {
    id,
    object: "response",
    created_at: unixSeconds(),
    status: body.background ? "queued" : "in_progress",
    background: body.background ?? false,
    ...{ completed_at: null, error: null, incomplete_details: null },
    instructions: body.instructions ? stringOf(body.instructions) : null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    metadata: body.metadata ?? {},
    model,
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: body.previous_response_id ?? null,
    conversation: conversation === undefined ? null : { id: conversation },
    prompt_cache_key: body.prompt_cache_key ?? null,
    reasoning: {
      effort: body.reasoning?.effort ?? null,
      summary: body.reasoning?.summary ?? null,
    },
    safety_identifier: body.safety_identifier ?? null,
    ...{ service_tier: "default", store },
    temperature: body.temperature ?? defaults.temperature,
    text: { format: body.text?.format ?? { type: "text" }, verbosity: "medium" },
    tool_choice: body.tool_choice ?? "auto",
    tools: [...body.tools ?? []],
    top_logprobs: body.top_logprobs ?? 0,
    top_p: body.top_p ?? defaults.top_p,
    truncation: body.truncation ?? "disabled",
    usage: null,
    user: body.user ?? null,
    output: [],
  };
}

export type EndStatus = "completed" | "incomplete";

/**
 * How a response ended.
 * @throws {ApiError} 500 where it did not end by itself
 */
export function endOf(reason: AnswerDelta["finishReason"]): EndStatus {
  switch (reason) {
    case "stop":
    case "tool_calls":
      return "completed";
    case "length":
      return "incomplete";
    default:
      throw new ApiError(500, "The server ended this response before it was whole. Please retry.", {
        code: "internal_error",
        cause: reason,
      });
  }
}

export function endedResponse(
  begun: ResponseBody,
  { status, output, usage }: {
    readonly status: EndStatus;
    readonly output: readonly OutputItem[];
    readonly usage: UsageBody;
  },
): ResponseBody {
  return {
    ...begun,
    status,
    ...(status === "completed"
      ? { completed_at: unixSeconds() }
      : { incomplete_details: { reason: "max_output_tokens" } }),
    output: [...output],
    usage: toUsage(usage),
  };
}

/** A response that came to nothing. */
export function failedResponse(begun: ResponseBody, failure: ApiError): ResponseBody {
  const code = failure.status === 429 ? "rate_limit_exceeded" : "server_error";
  return { ...begun, status: "failed", error: { code, message: failure.message } };
}

export function toUsage(usage: UsageBody): ResponseUsage {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: { ...usage.prompt_tokens_details, cache_write_tokens: 0 },
    output_tokens: usage.completion_tokens,
    output_tokens_details: {
      reasoning_tokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
    },
    total_tokens: usage.total_tokens,
  };
}
