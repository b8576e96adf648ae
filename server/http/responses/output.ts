// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A response's items while they grow. Trap: what began as a call cannot be taken back; where it turns
 * out broken, its item ends incomplete and is none of the response's, and all of its text follows.
 */
import type { TokenLogprob } from "../../../src/engine/request/request.ts";
import type { AnswerDelta } from "../../generate/answer.ts";
import type { ChatTokenLogprob } from "../schema/chat.ts";
import type { ToolCallDelta } from "../schema/tools.ts";
import type { ResponseEventType } from "./answer_schema.ts";
import type { NamespacedName } from "./namespaces.ts";
import {
  itemId,
  type ItemStatus,
  type OutputCall,
  type OutputItem,
  type OutputMessage,
  type OutputReasoning,
} from "./items.ts";

/** Takes an event as it happens. */
export type Emit = (type: ResponseEventType, fields: object) => void;

export interface OutputOptions {
  /** The response's id. */
  readonly id: string;
  readonly emit: Emit;
  /** How items call a function that the model called by this name. */
  readonly named: (flat: string) => NamespacedName;
  /** As they are told; undefined = they are not. */
  readonly logprobs: ((logprobs: readonly TokenLogprob[]) => ChatTokenLogprob[]) | undefined;
}

/** What is written just now. */
type Open =
  | { readonly type: "reasoning"; readonly id: string; readonly index: number; text: string }
  | {
    readonly type: "message";
    readonly id: string;
    readonly index: number;
    text: string;
    readonly logprobs: ChatTokenLogprob[];
  }
  | {
    readonly type: "call";
    readonly id: string;
    readonly index: number;
    /** Its number among the calls. */
    readonly call: number;
    readonly call_id: string;
    readonly function: NamespacedName;
    json: string;
  };

type Opened<Type extends Open["type"]> = Extract<Open, { type: Type }>;

export class Output {
  readonly #options: OutputOptions;
  readonly #items: OutputItem[] = [];
  /** Items that have begun. */
  #begun = 0;
  #open: Open | undefined;
  /** Blanks that may be nothing but what stands between a text and a call. */
  #blanks = "";
  /** Of tokens whose text has not gone out. */
  #held: ChatTokenLogprob[] = [];
  #called = false;

  constructor(options: OutputOptions) {
    this.#options = options;
  }

  /** Those that have ended. */
  get items(): readonly OutputItem[] {
    return this.#items;
  }

  read({ text, reasoning, call, broken, logprobs }: AnswerDelta): void {
    if (reasoning) {
      this.#think(reasoning);
      if (text === "" && call === undefined) return;
    }
    if (call !== undefined) return this.#call(call);
    if (logprobs !== undefined) this.#held.push(...this.#options.logprobs?.(logprobs) ?? []);
    if (broken !== undefined) this.#retract(broken);
    this.#text(text);
  }

  /** Ends what is open; an answer has one item at least. */
  end(status: "completed" | "incomplete"): void {
    if (!this.#called) {
      const blanks = this.#blanks;
      if (blanks !== "" || this.#begun === 0) this.#begin();
      this.#say(blanks);
    }
    this.#close(status);
  }

  #think(delta: string): void {
    if (this.#open?.type !== "reasoning") {
      this.#close("completed");
      this.#open = { type: "reasoning", ...this.#next("reasoning"), text: "" };
      const item = { ...reasoningOf(this.#open, "in_progress"), content: [] };
      this.#added(item, THOUGHT);
    }
    this.#open.text += delta;
    this.#emit("response.reasoning_text.delta", { ...this.#place(), delta });
  }

  #text(text: string): void {
    if (this.#open?.type === "message") return this.#say(text);
    this.#blanks += text;
    if (this.#blanks.trim() === "") return;
    const all = this.#blanks;
    // tokens of the marks around the reasoning are none of the message's
    if (this.#open?.type === "reasoning") this.#held = lastOf(this.#held, all);
    this.#begin();
    this.#say(all);
  }

  #begin(): void {
    this.#close("completed");
    this.#blanks = "";
    this.#open = { type: "message", ...this.#next("message"), text: "", logprobs: [] };
    this.#added({ ...messageOf(this.#open, "in_progress"), content: [] }, PART);
  }

  #say(delta: string): void {
    if (this.#open?.type !== "message" || delta === "") return;
    const logprobs = this.#held.splice(0);
    this.#open.text += delta;
    this.#open.logprobs.push(...logprobs);
    this.#emit("response.output_text.delta", { ...this.#place(), delta, logprobs });
  }

  #call({ index: call, id: call_id, function: { name, arguments: delta } }: ToolCallDelta): void {
    [this.#blanks, this.#held, this.#called] = ["", [], true];
    if (call_id !== undefined && name !== undefined) {
      this.#close("completed");
      const called = { call, call_id, function: this.#options.named(name), json: "" };
      this.#open = { type: "call", ...this.#next("function_call"), ...called };
      this.#added(callOf(this.#open, "in_progress"));
    }
    const open = this.#open;
    if (open?.type !== "call" || delta === "") return;
    open.json += delta;
    const { id: item_id, index: output_index } = open;
    this.#emit("response.function_call_arguments.delta", { item_id, output_index, delta });
  }

  #retract(call: number): void {
    const open = this.#open;
    if (open?.type !== "call" || open.call !== call) return;
    this.#open = undefined;
    const item = callOf(open, "incomplete");
    this.#emit("response.output_item.done", { output_index: open.index, item });
  }

  #close(status: ItemStatus): void {
    const open = this.#open;
    if (open === undefined) return;
    const item = this.#done(open, status);
    this.#open = undefined;
    this.#items.push(item);
    this.#emit("response.output_item.done", { output_index: open.index, item });
  }

  #done(open: Open, status: ItemStatus): OutputItem {
    switch (open.type) {
      case "reasoning":
        return this.#thought(open, status);
      case "message":
        return this.#told(open, status);
      case "call":
        return this.#ended(open, status);
    }
  }

  #thought(open: Opened<"reasoning">, status: ItemStatus): OutputReasoning {
    const item = reasoningOf(open, status);
    const [part] = item.content;
    this.#emit("response.reasoning_text.done", { ...this.#place(), text: open.text });
    this.#emit("response.content_part.done", { ...this.#place(), part });
    return item;
  }

  #told(open: Opened<"message">, status: ItemStatus): OutputMessage {
    open.logprobs.push(...this.#held.splice(0));
    const item = messageOf(open, status);
    const [part] = item.content;
    const { text, logprobs } = open;
    this.#emit("response.output_text.done", { ...this.#place(), text, logprobs });
    this.#emit("response.content_part.done", { ...this.#place(), part });
    return item;
  }

  #ended(open: Opened<"call">, status: ItemStatus): OutputCall {
    const { id: item_id, index: output_index, function: { name }, json } = open;
    const fields = { item_id, output_index, name, arguments: json };
    this.#emit("response.function_call_arguments.done", fields);
    return callOf(open, status);
  }

  /** Where the next item is, and its id. */
  #next(type: OutputItem["type"]): { readonly id: string; readonly index: number } {
    const index = this.#begun++;
    return { id: itemId(this.#options.id, type, "out", index), index };
  }

  /** Tells of the open item, and of the part that its text is. */
  #added(item: OutputItem, part?: object): void {
    this.#emit("response.output_item.added", { output_index: this.#open?.index, item });
    if (part !== undefined) this.#emit("response.content_part.added", { ...this.#place(), part });
  }

  #emit(type: ResponseEventType, fields: object): void {
    this.#options.emit(type, fields);
  }

  /** Where the open item's text is. */
  #place() {
    return { item_id: this.#open?.id, output_index: this.#open?.index, content_index: 0 };
  }
}

const THOUGHT = { type: "reasoning_text", text: "" } as const;
const PART = { type: "output_text", text: "", annotations: [], logprobs: [] } as const;

function reasoningOf(
  { id, text }: Opened<"reasoning">,
  status: ItemStatus,
): OutputReasoning {
  return { id, type: "reasoning", status, summary: [], content: [{ ...THOUGHT, text }] };
}

function messageOf(
  { id, text, logprobs }: Opened<"message">,
  status: ItemStatus,
): OutputMessage {
  return {
    ...{ id, type: "message", status, role: "assistant" },
    content: [{ ...PART, annotations: [], text, logprobs: [...logprobs] }],
  };
}

function callOf(
  { id, call_id, function: { name, namespace }, json }: Opened<"call">,
  status: ItemStatus,
): OutputCall {
  const called = { name, ...(namespace && { namespace }), arguments: json };
  return { id, type: "function_call", status, call_id, ...called };
}

/** Of tokens' log probabilities those of a text at their end. */
function lastOf(logprobs: readonly ChatTokenLogprob[], text: string): ChatTokenLogprob[] {
  let left = new TextEncoder().encode(text).length;
  let from = logprobs.length;
  while (from > 0 && left > 0) left -= logprobs[--from]?.bytes.length ?? 0;
  return logprobs.slice(from);
}
