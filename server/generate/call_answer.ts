/**
 * Answers with tool calls: a sample's text, taken apart into content and calls while it grows. Trap: a
 * call that has begun to go out cannot be taken back; where it turns out broken, all of its text
 * follows as content, and the answer ends as if there had been none.
 */
import { callParser } from "../../src/calls/formats.ts";
import type { CallEvent, CallParser, TextEnd } from "../../src/calls/parser.ts";
import type { FinishReason } from "../../src/engine/request/request.ts";
import type { ToolCallBody, ToolCallDelta } from "../http/schema/tools.ts";
import type { AnswerDelta, Sample } from "./answer.ts";
import type { RunDelta } from "./run.ts";
import type { Calling } from "./tools.ts";

/** An id for a call, as OpenAI's look; Mistral's templates refuse any but their own kind. */
function callId({ format }: Calling): string {
  const digits = crypto.randomUUID().replaceAll("-", "");
  return format === "mistral" ? digits.slice(0, 9) : `call_${digits.slice(0, 24)}`;
}

function endOf(reason: FinishReason): TextEnd {
  return reason === "stop" ? "whole" : "cut";
}

function parserFor({ format, names, opener }: Calling): CallParser {
  const parser = callParser(format, names);
  if (opener !== undefined) parser.push(opener.text);
  return parser;
}

/** Deltas of samples whose text may have calls. */
export async function* withCalls(
  deltas: AsyncIterable<RunDelta>,
  calling: Calling,
): AsyncGenerator<AnswerDelta> {
  const samples = new Map<number, CallSample>();
  for await (const delta of deltas) {
    const sample = samples.get(delta.index) ?? new CallSample(calling);
    samples.set(delta.index, sample);
    yield* sample.read(delta);
  }
}

/** One sample as it grows. */
class CallSample {
  readonly #calling: Calling;
  readonly #parser: CallParser;
  /** Calls that went out and stand. */
  #calls = 0;
  /** Calls that are more than are wanted. */
  readonly #left = new Set<number>();

  constructor(calling: Calling) {
    this.#calling = calling;
    this.#parser = parserFor(calling);
  }

  /** Its reasoning, tokens and log probabilities go with the first piece, its end with the last. */
  read(
    { finishReason, stopReason, logprobs, reasoning, ...delta }: RunDelta,
  ): readonly AnswerDelta[] {
    const events = [
      ...this.#parser.push(delta.text),
      ...(finishReason === undefined ? [] : this.#parser.finish(endOf(finishReason))),
    ];
    const pieces = events.flatMap((event) => this.#piece(event));
    if (pieces.length === 0) pieces.push({ text: "" });
    return pieces.map((piece, index) => {
      const last = index === pieces.length - 1;
      return {
        ...delta,
        ...piece,
        ...(index === 0 && reasoning !== undefined && { reasoning }),
        tokens: index === 0 ? delta.tokens : [],
        logprobs: index === 0 ? logprobs : undefined,
        finishReason: last ? this.#reason(finishReason) : undefined,
        stopReason: last ? stopReason : undefined,
      };
    });
  }

  #reason(reason: FinishReason | undefined): AnswerDelta["finishReason"] {
    return reason === "stop" && this.#calls > 0 ? "tool_calls" : reason;
  }

  #piece(event: CallEvent): Pick<AnswerDelta, "text" | "call" | "broken">[] {
    if (event.type === "text") return [{ text: event.text }];
    switch (event.type) {
      case "call":
        if (this.#calls >= this.#calling.most) {
          this.#left.add(event.call);
          return [];
        }
        this.#calls++;
        return [{ text: "", call: begun(event.call, callId(this.#calling), event.name) }];
      case "arguments":
        if (this.#left.has(event.call)) return [];
        return [{ text: "", call: { index: event.call, function: { arguments: event.text } } }];
      case "broken":
        if (this.#left.has(event.call)) return [{ text: event.text }];
        this.#calls--;
        return [{ text: event.text, broken: event.call }];
    }
  }
}

function begun(index: number, id: string, name: string): ToolCallDelta {
  return { index, id, type: "function", function: { name, arguments: "" } };
}

/** A whole sample's content and calls. */
export interface CallContent {
  readonly content: string;
  readonly calls: readonly ToolCallBody[];
  readonly finishReason: Sample["finishReason"] | "tool_calls";
}

/** What a whole sample says and calls. */
export function readCalls({ text, finishReason }: Sample, calling: Calling): CallContent {
  const parser = parserFor(calling);
  let content = "";
  const calls = new Map<number, ToolCallBody>();
  for (const event of [...parser.push(text), ...parser.finish(endOf(finishReason))]) {
    if (event.type === "text" || event.type === "broken") content += event.text;
    if (event.type === "broken") calls.delete(event.call);
    if (event.type === "call") calls.set(event.call, call(callId(calling), event.name, ""));
    const known = event.type === "arguments" ? calls.get(event.call) : undefined;
    if (event.type === "arguments" && known !== undefined) {
      const { name, arguments: before } = known.function;
      calls.set(event.call, call(known.id, name, before + event.text));
    }
  }
  const some = [...calls.values()].slice(0, calling.most);
  const called = finishReason === "stop" && some.length > 0;
  return { content, calls: some, finishReason: called ? "tool_calls" : finishReason };
}

function call(id: string, name: string, text: string): ToolCallBody {
  return { id, type: "function", function: { name, arguments: text } };
}
