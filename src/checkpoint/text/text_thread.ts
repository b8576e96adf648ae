/**
 * A checkpoint's tokenizer and chat template in a thread, for texts that would hold up the event loop.
 * It starts with the first order, obeys one at a time, and ends after a while without any.
 */
import type { ChatMessage } from "../checkpoint.ts";
import type { TextOrder, TextReply } from "./text_protocol.ts";

/** Milliseconds without an order after which the thread and its tables go. */
const IDLE_MS = 60_000;

interface Waiting {
  readonly resolve: (reply: TextReply) => void;
  readonly reject: (error: Error) => void;
}

export class TextThread implements Disposable {
  readonly #path: string;
  #worker: Worker | undefined;
  #waiting: Waiting | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #idle: ReturnType<typeof setTimeout> | undefined;

  /** @param path what `openCheckpoint` takes */
  constructor(path: string) {
    this.#path = path;
  }

  /** As `Tokenizer.encode`. @throws what `signal` was aborted with before its turn */
  async encode(
    text: string,
    options: { readonly addSpecialTokens: boolean },
    signal?: AbortSignal,
  ): Promise<readonly number[]> {
    const reply = await this.#order({ type: "encode", text, ...options }, signal);
    return reply.type === "ids" ? [...reply.ids] : [];
  }

  /** As `ChatTemplate.render`. @throws what it throws; what `signal` was aborted with before */
  async render(
    messages: readonly ChatMessage[],
    options: Readonly<Record<string, unknown>>,
    signal?: AbortSignal,
  ): Promise<string> {
    const reply = await this.#order({ type: "render", messages, options }, signal);
    return reply.type === "text" ? reply.text : "";
  }

  [Symbol.dispose](): void {
    this.#end(new Error("Cannot read a text: its thread was ended"));
  }

  #order(order: TextOrder, signal: AbortSignal | undefined): Promise<TextReply> {
    const reply = this.#turn.then(async () => {
      signal?.throwIfAborted();
      const reply = await this.#ask(order);
      if (reply.type === "failed") throw reply.error;
      return reply;
    });
    this.#turn = reply.catch(() => {});
    return reply;
  }

  #ask(order: TextOrder): Promise<TextReply> {
    clearTimeout(this.#idle);
    const { promise, resolve, reject } = Promise.withResolvers<TextReply>();
    this.#waiting = { resolve, reject };
    this.#worker ??= this.#start();
    this.#worker.postMessage({ path: this.#path, order });
    return promise;
  }

  #start(): Worker {
    const worker = new Worker(new URL("./text_worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<TextReply>) => {
      this.#waiting?.resolve(data);
      this.#waiting = undefined;
      this.#idle = setTimeout(() => this[Symbol.dispose](), IDLE_MS);
      Deno.unrefTimer(this.#idle);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#end(new Error(`Cannot read a text: its thread ended: ${event.message}`));
    };
    return worker;
  }

  /** The next order starts another one. */
  #end(error: Error): void {
    clearTimeout(this.#idle);
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }
}
