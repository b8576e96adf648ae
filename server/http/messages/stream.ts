// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A message as events while it grows. Trap: what began as a tool's use cannot be taken back; where it
 * turns out broken, its block stays with the input so far, and all of its text follows in another.
 */
import type { AnswerDelta } from "../../generate/answer.ts";
import type { Run } from "../../generate/run.ts";
import type { ToolCallDelta } from "../schema/tools.ts";
import { stopOf, thinkingBlock, toUsage } from "./answer.ts";
import type { Message, MessageErrorBody } from "./schema.ts";

/** One event of a stream. */
function event(type: string, fields: object): string {
  return `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;
}

/** The last event of a stream that failed. */
export function errorEvent(body: MessageErrorBody): string {
  return `event: error\ndata: ${JSON.stringify(body)}\n\n`;
}

/** Events of a run with one sample. */
export async function* messageEvents(
  head: Pick<Message, "id" | "model">,
  run: Run,
  deltas: AsyncIterable<AnswerDelta>,
): AsyncGenerator<string> {
  const usage = { ...toUsage(run.usage()), output_tokens: 0 };
  const begun = { content: [], stop_reason: null, stop_sequence: null, usage };
  yield event("message_start", {
    message: { ...head, type: "message", role: "assistant", ...begun },
  });
  const blocks = new Blocks();
  for await (const delta of deltas) {
    const text = blocks.read(delta) + (delta.finishReason === undefined ? "" : blocks.end());
    if (text !== "") yield text;
    if (delta.finishReason === undefined) continue;
    const stop = stopOf(delta);
    await run.complete();
    yield event("message_delta", { delta: stop, usage: toUsage(run.usage()) }) +
      event("message_stop", {});
  }
}

/** Blocks as they begin, grow and end; each function gives the events of it, which may be none. */
class Blocks {
  #index = -1;
  #open: "thinking" | "text" | "tool_use" | undefined;
  /** Blanks that may be nothing but what stands between a text and a tool's use. */
  #blanks = "";
  #used = false;

  read({ text, reasoning, call }: AnswerDelta): string {
    const thought = reasoning ? this.#think(reasoning) : "";
    return thought + (call === undefined ? this.#text(text) : this.#use(call));
  }

  end(): string {
    const left = this.#used ? "" : this.#say(this.#blanks);
    this.#blanks = "";
    return left + this.#close();
  }

  #think(text: string): string {
    const begun = this.#open === "thinking" ? "" : this.#begin("thinking", thinkingBlock(""));
    return begun + this.#delta(`{"type":"thinking_delta","thinking":${JSON.stringify(text)}}`);
  }

  #text(text: string): string {
    if (this.#open === "text") return this.#say(text);
    this.#blanks += text;
    if (this.#blanks.trim() === "") return "";
    const all = this.#blanks;
    this.#blanks = "";
    return this.#say(all);
  }

  #say(text: string): string {
    if (text === "") return "";
    const begun = this.#open === "text" ? "" : this.#begin("text", { type: "text", text: "" });
    return begun + this.#delta(`{"type":"text_delta","text":${JSON.stringify(text)}}`);
  }

  #use({ id, function: { name, arguments: json } }: ToolCallDelta): string {
    this.#blanks = "";
    this.#used = true;
    const begun = id === undefined
      ? ""
      : this.#begin("tool_use", { type: "tool_use", id, name, input: {} });
    if (json === "") return begun;
    return begun +
      this.#delta(`{"type":"input_json_delta","partial_json":${JSON.stringify(json)}}`);
  }

  #begin(kind: "thinking" | "text" | "tool_use", content_block: object): string {
    const closed = this.#close();
    this.#open = kind;
    return closed + event("content_block_start", { index: ++this.#index, content_block });
  }

  #delta(delta: string): string {
    return "event: content_block_delta\n" +
      `data: {"type":"content_block_delta","index":${this.#index},"delta":${delta}}\n\n`;
  }

  #close(): string {
    if (this.#open === undefined) return "";
    this.#open = undefined;
    return event("content_block_stop", { index: this.#index });
  }
}
