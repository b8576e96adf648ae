// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Writes a run as an HTTP answer: server-sent events while its samples grow, or all samples at its
 * end. The constant part of a stream's events is written once, so that a token costs one
 * `JSON.stringify` of its text.
 */
import type { FinishReason, TokenLogprob } from "../../src/engine/request/request.ts";
import type { AppContext, ServerContext, StreamEnd } from "../context.ts";
import type { Run, RunDelta } from "./run.ts";
import { type ApiError, invalid, toApiError } from "../errors.ts";
import type { GenerationFields, UsageBody } from "../http/schema/common.ts";
import type { ToolCallDelta } from "../http/schema/tools.ts";
import { logFailure } from "../telemetry/log.ts";
import { obfuscated } from "./extras/obfuscation.ts";

/** A fresh id for a completion; unique whatever request id the client sent. */
export function completionId(
  prefix: "chatcmpl-" | "cmpl-" | "msg_" | "resp_" | "embd-" | "score-" | "rerank-",
): string {
  return prefix + crypto.randomUUID().replaceAll("-", "");
}

/** @throws {ApiError} 400 for stream options without a stream. */
export function chunkOptions({ options }: ServerContext, body: GenerationFields): ChunkOptions {
  if (body.stream_options && !body.stream) {
    throw invalid("stream_options", "'stream_options' is only allowed when 'stream' is true.");
  }
  const { forceIncludeUsage: forced = false } = options;
  const last = forced || (body.stream_options?.include_usage ?? false);
  return {
    last,
    // as in vLLM, where it says how often, not whether
    continuous: forced || last && (body.stream_options?.continuous_usage_stats ?? false),
    padded: body.stream_options?.include_obfuscation ?? false,
  };
}

/** Puts a run's tokens on the request's log line. */
export function noteUsage(c: AppContext, usage: UsageBody): void {
  const notes = c.get("notes");
  notes.promptTokens = usage.prompt_tokens;
  notes.completionTokens = usage.completion_tokens;
}

/**
 * A streamed answer. An error after the head becomes an event, by default in OpenAI's shape, and
 * the access log's line is written at the end.
 */
export function streamAnswer(
  context: ServerContext,
  c: AppContext,
  run: Run,
  events: AsyncIterator<string>,
  failed: (failure: ApiError) => string = failureEvents,
): Response {
  const onError = (error: unknown) => {
    const failure = toApiError(error, c.get("requestId"));
    logFailure(context.log, c.get("requestId"), failure);
    return failed(failure);
  };
  const { signal } = c.req.raw;
  const { response, ended } = eventStream({ events, signal, close: run.close, onError });
  c.get("notes").ended = ended.then((how) => {
    noteUsage(c, run.usage());
    return how;
  });
  return response;
}

function failureEvents(failure: ApiError): string {
  return `data: ${JSON.stringify(failure.body())}\n\n${DONE_EVENT}`;
}

/** The constant fields of every chunk. */
export interface ChunkHead {
  readonly id: string;
  readonly object: "chat.completion.chunk" | "text_completion";
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

export interface ChunkOptions {
  /** A last chunk with the usage, and null before it. */
  readonly last: boolean;
  /** The usage so far in every chunk. */
  readonly continuous: boolean;
  /** Chunks do not show by their size how long a token is. */
  readonly padded: boolean;
}

/** A delta as it is sent: one of the engine's, or a piece of one that has calls. */
export interface AnswerDelta extends Omit<RunDelta, "finishReason"> {
  readonly finishReason: FinishReason | "tool_calls" | undefined;
  readonly call?: ToolCallDelta;
  /** The call of this index, which went out so far, is none after all: `text` is all of it. */
  readonly broken?: number;
}

/** Writes a choice's fields after its index, e.g. `"text":"x","logprobs":null`; no finish reason. */
export type ChoiceWriter = (delta: AnswerDelta) => string;

/** What else goes into a run's events. */
export interface ChunkParts {
  /** A choice to send before a sample's first delta. */
  readonly first?: (index: number) => string | undefined;
  /** Whether deltas without text are left out; default true. */
  readonly silent?: boolean;
  /** More fields of the first event. */
  readonly begin?: object;
  /** More fields of every event, with values of now. */
  readonly each?: (() => object) | undefined;
  /** More fields of the chunk with the usage. */
  readonly end?: (() => object) | undefined;
  /** Instead of the run's own deltas. */
  readonly deltas?: AsyncIterable<AnswerDelta>;
}

/** Events of a run, `[DONE]` at its end. */
export async function* chunkEvents(
  head: ChunkHead,
  run: Run,
  options: ChunkOptions,
  write: ChoiceWriter,
  { first, silent = true, begin = {}, each, end: ended, deltas = run }: ChunkParts = {},
): AsyncGenerator<string> {
  const opening = (fields: object) => `data: ${JSON.stringify(fields).slice(0, -1)},"choices":[`;
  const rest = opening(head);
  let open = opening({ ...head, ...begin });
  const { last, continuous, padded } = options;
  const more = () => each === undefined ? "" : `,${JSON.stringify(each()).slice(1, -1)}`;
  const usageTold = () => usageEnd({ ...ended?.(), usage: run.usage() });
  const tail = last && !continuous ? `,"usage":null}\n\n` : `}\n\n`;
  const end = continuous ? () => `,"usage":${JSON.stringify(run.usage())}}\n\n` : () => tail;
  const close = () => `]${more()}${end()}`;
  const plain = (choice: string) => open + choice + close();
  const event = padded ? (choice: string) => obfuscated(plain(choice)) : plain;
  const begun = new Set<number>();
  let running = run.plan.prompts.length * run.plan.n;
  for await (const delta of deltas) {
    if (delta.finishReason !== undefined && --running === 0) await run.complete();
    if (!begun.has(delta.index)) {
      begun.add(delta.index);
      const choice = first?.(delta.index);
      if (choice !== undefined) {
        yield event(choice);
        open = rest;
      }
    }
    if (silent && isSilent(delta)) continue;
    yield event(`{"index":${delta.index},${write(delta)}${ending(delta)}}`);
    open = rest;
  }
  yield last ? `${open}]${more()}${usageTold()}${DONE_EVENT}` : DONE_EVENT;
}

/**
 * Whether there is nothing to send: the token's text is held back, as half a character or a stop
 * string's begin.
 */
function isSilent(delta: AnswerDelta): boolean {
  return delta.text === "" && !delta.reasoning && delta.finishReason === undefined &&
    delta.call === undefined &&
    (delta.logprobs === undefined || delta.logprobs.length === 0);
}

function ending({ finishReason, stopReason }: AnswerDelta): string {
  if (finishReason === undefined) return `,"finish_reason":null`;
  return `,"finish_reason":"${finishReason}","stop_reason":${JSON.stringify(stopReason ?? null)}`;
}

function usageEnd(fields: { readonly usage: UsageBody }): string {
  return `,${JSON.stringify(fields).slice(1)}\n\n`;
}

/** Of an event stream. */
export const EVENT_HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  // no-transform: Deno.serve would compress, and so hold back, an event stream
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
} as const;

export const DONE_EVENT = "data: [DONE]\n\n";

export interface EventStream {
  readonly response: Response;
  /** Resolves when the last event is out, the client is gone, or the events failed. */
  readonly ended: Promise<StreamEnd>;
}

export interface EventStreamOptions {
  readonly events: AsyncIterator<string>;
  /**
   * Aborted when the client is gone. Trap: nobody cancels a stream whose client left before it
   * began.
   */
  readonly signal: AbortSignal;
  /** Called once, however the stream ends. */
  readonly close: () => void;
  /** The last event of a stream whose events failed. */
  readonly onError: (error: unknown) => string;
}

/** A streaming response. */
export function eventStream({ events, signal, close, onError }: EventStreamOptions): EventStream {
  const encoder = new TextEncoder();
  const { promise: ended, resolve } = Promise.withResolvers<StreamEnd>();
  let open = true;
  const finish = (how: StreamEnd) => {
    if (!open) return;
    open = false;
    signal.removeEventListener("abort", cancel);
    close();
    resolve(how);
  };
  const cancel = () => {
    finish("cancelled");
    // waits for an event on its way, which the cancellation just ended
    events.return?.().catch(() => {});
  };
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await events.next();
        if (!open) return; // the client left meanwhile
        if (!done) return controller.enqueue(encoder.encode(value));
        controller.close();
        finish("done");
      } catch (error) {
        fail(controller, encoder.encode(onError(error)));
        finish("failed");
      }
    },
    cancel,
  }, { highWaterMark: 0 });
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel);
  return { response: new Response(body, { headers: EVENT_HEADERS }), ended };
}

function fail(controller: ReadableStreamDefaultController<Uint8Array>, last: Uint8Array): void {
  try {
    controller.enqueue(last);
    controller.close();
  } catch {
    // the client left while the events failed: nobody reads the last event
  }
}

/** One sample, complete. */
export interface Sample {
  readonly index: number;
  readonly text: string;
  /** Undefined = the model is not one that reasons. */
  readonly reasoning: string | undefined;
  readonly tokens: readonly number[];
  readonly logprobs: readonly TokenLogprob[] | undefined;
  readonly finishReason: FinishReason;
  readonly stopReason: string | number | undefined;
}

interface Gathering {
  text: string;
  reasoning: string | undefined;
  readonly tokens: number[];
  logprobs: TokenLogprob[] | undefined;
  finishReason: FinishReason;
  stopReason: string | number | undefined;
}

/** Samples 0 … count-1, in order. */
export async function collect(
  deltas: AsyncIterable<RunDelta>,
  count: number,
): Promise<Sample[]> {
  const samples = Array.from({ length: count }, (): Gathering => ({
    text: "",
    reasoning: undefined,
    tokens: [],
    logprobs: undefined,
    finishReason: "error",
    stopReason: undefined,
  }));
  for await (const delta of deltas) {
    const sample = samples[delta.index];
    if (sample === undefined) {
      throw new RangeError(`internal: a delta of sample ${delta.index}, of ${count} asked for`);
    }
    add(sample, delta);
  }
  return samples.map((sample, index) => ({ index, ...sample }));
}

function add(sample: Gathering, delta: RunDelta): void {
  sample.text += delta.text;
  if (delta.reasoning !== undefined) sample.reasoning = (sample.reasoning ?? "") + delta.reasoning;
  sample.tokens.push(...delta.tokens);
  if (delta.logprobs !== undefined) (sample.logprobs ??= []).push(...delta.logprobs);
  if (delta.finishReason === undefined) return;
  sample.finishReason = delta.finishReason;
  sample.stopReason = delta.stopReason;
}
