// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A response that runs: whole at its end, or as events while it grows. It is kept before its last word
 * goes out; one that fails, or whose client leaves, is not.
 */
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import type { AnswerDelta } from "../../generate/answer.ts";
import { withCalls } from "../../generate/call_answer.ts";
import type { ChatRun } from "../../generate/chat_run.ts";
import { obfuscated } from "../../generate/extras/obfuscation.ts";
import { chatLogprobs } from "../../generate/logprobs.ts";
import { endedResponse, endOf } from "./answer.ts";
import type { ResponseBody, ResponseEventType } from "./answer_schema.ts";
import { namesIn } from "./namespaces.ts";
import { type Emit, Output } from "./output.ts";

export interface ResponseRun {
  /** Resolves with its first delta. */
  readonly chat: Promise<ChatRun>;
  readonly begun: ResponseBody;
  readonly tokenizer: Tokenizer;
  /** Whether log probabilities are told. */
  readonly logprobs: boolean;
  /** Whether the sizes of its deltas on the wire do not show how long a token is. */
  readonly padded: boolean;
  /** Hears that it has begun to run, where it was queued. */
  readonly progress?: (response: ResponseBody) => Promise<void>;
  /** Keeps the whole response, where it is to be. */
  readonly keep: (response: ResponseBody) => Promise<void>;
}

/** @throws {ApiError} where it did not end by itself */
export async function wholeResponse(response: ResponseRun): Promise<ResponseBody> {
  const output = outputOf(response, () => {});
  let reason: AnswerDelta["finishReason"];
  for await (const delta of deltasOf(await response.chat)) {
    output.read(delta);
    reason = delta.finishReason;
  }
  return await end(response, output, reason);
}

/** Events of a response, as text. */
export class ResponseEvents {
  readonly #response: ResponseRun;
  /** Of events that have not gone out. */
  #text = "";
  #count = 0;
  /** Events that went out. */
  #sent = 0;

  constructor(response: ResponseRun) {
    this.#response = response;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    const { begun, chat, progress } = this.#response;
    const output = outputOf(this.#response, (type, fields) => this.#emit(type, fields));
    this.#emit("response.created", { response: begun });
    if (begun.status === "queued") {
      this.#emit("response.queued", { response: begun });
      yield this.#take();
    }
    const started = await chat;
    const response = { ...begun, status: "in_progress" as const };
    await progress?.(response);
    this.#emit("response.in_progress", { response });
    yield this.#take();
    for await (const delta of deltasOf(started)) {
      output.read(delta);
      if (delta.finishReason !== undefined) {
        const response = await end(this.#response, output, delta.finishReason);
        this.#emit(`response.${endOf(delta.finishReason)}`, { response });
      }
      const text = this.#take();
      if (text !== "") yield text;
    }
  }

  /** The last event of a stream that failed. */
  failed(response: ResponseBody): string {
    // what did not go out never was
    [this.#text, this.#count] = ["", this.#sent];
    this.#emit("response.failed", { response });
    return this.#take();
  }

  #emit(type: ResponseEventType, fields: object): void {
    const { padded } = this.#response;
    const sequence_number = this.#count++;
    this.#text += eventText({ type, sequence_number, fields: JSON.stringify(fields), padded });
  }

  #take(): string {
    const text = this.#text;
    this.#text = "";
    this.#sent = this.#count;
    return text;
  }
}

/** @param fields of the event, a JSON object that has one at least */
export function eventText(
  { type, sequence_number, fields, padded }: {
    readonly type: ResponseEventType;
    readonly sequence_number: number;
    readonly fields: string;
    readonly padded: boolean;
  },
): string {
  const data = `{"type":"${type}","sequence_number":${sequence_number},${fields.slice(1)}`;
  const event = `event: ${type}\ndata: ${data}\n\n`;
  return padded && type.endsWith(".delta") ? obfuscated(event) : event;
}

function deltasOf({ run, calling }: ChatRun): AsyncIterable<AnswerDelta> {
  return calling === undefined ? run : withCalls(run, calling);
}

function outputOf({ begun: { id, tools }, tokenizer, logprobs }: ResponseRun, emit: Emit): Output {
  return new Output({
    ...{ id, emit },
    named: namesIn(tools),
    logprobs: logprobs ? (given) => chatLogprobs(tokenizer, given, {}) : undefined,
  });
}

async function end(
  { begun, chat, keep }: ResponseRun,
  output: Output,
  reason: AnswerDelta["finishReason"],
): Promise<ResponseBody> {
  const status = endOf(reason);
  output.end(status);
  const { run } = await chat;
  await run.complete();
  const response = endedResponse(begun, { status, output: output.items, usage: run.usage() });
  await keep(response);
  return response;
}
