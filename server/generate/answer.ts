/**
 * What both completion endpoints do around a run: ids, stream options, the log's notes, and turning
 * events into a response whose end is logged. It knows neither endpoint's shapes.
 */
import type { ChunkUsage } from "./chunks.ts";
import type { ServerContext } from "../context.ts";
import type { AppContext } from "../http/endpoint.ts";
import { invalid, toApiError } from "../http/errors.ts";
import { logFailure } from "../telemetry/failure.ts";
import type { Run } from "./run.ts";
import type { GenerationFields, UsageBody } from "../http/schema/common.ts";
import { DONE_EVENT, eventStream } from "../http/sse.ts";

/** A fresh id for a completion; unique whatever request id the client sent. */
export function completionId(prefix: "chatcmpl" | "cmpl"): string {
  return `${prefix}-${crypto.randomUUID().replaceAll("-", "")}`;
}

export function unixNow(): number {
  return Math.floor(Date.now() / 1000);
}

/** @throws {ApiError} 400 for stream options without a stream. */
export function usageWanted(body: GenerationFields): ChunkUsage {
  if (body.stream_options && !body.stream) {
    throw invalid("stream_options", "'stream_options' is only allowed when 'stream' is true.");
  }
  return {
    last: body.stream_options?.include_usage ?? false,
    continuous: body.stream_options?.continuous_usage_stats ?? false,
  };
}

/** Puts a run's tokens on the request's log line. */
export function noteUsage(c: AppContext, usage: UsageBody): void {
  const notes = c.get("notes");
  notes.promptTokens = usage.prompt_tokens;
  notes.completionTokens = usage.completion_tokens;
}

/** A streamed answer: an error after the head becomes an event, the log line waits for the end. */
export function streamAnswer(
  context: ServerContext,
  c: AppContext,
  run: Run,
  events: AsyncIterator<string>,
): Response {
  const onError = (error: unknown) => {
    const failure = toApiError(error, c.get("requestId"));
    logFailure(context.log, c.get("requestId"), failure);
    return `data: ${JSON.stringify(failure.body())}\n\n${DONE_EVENT}`;
  };
  const { signal } = c.req.raw;
  const { response, ended } = eventStream({ events, signal, close: run.close, onError });
  c.get("notes").ended = ended.then((how) => {
    noteUsage(c, run.usage());
    return how;
  });
  return response;
}
