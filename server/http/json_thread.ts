/**
 * A thread for JSON bodies that would hold up the event loop. It starts with the first of them, parses
 * one at a time, and ends after a while without any.
 */
import { OverloadedError } from "../../src/util/errors.ts";
import type { JsonReply } from "./json_worker.ts";

/** Milliseconds without a body after which the thread goes. */
const IDLE_MS = 60_000;

/** Bodies that wait: each may be of megabytes. */
const MOST = 128;

/** What a client that was refused is to wait. */
const RETRY_SECONDS = 5;

interface Waiting {
  readonly resolve: (reply: JsonReply) => void;
  readonly reject: (error: Error) => void;
}

export class JsonThread implements Disposable {
  #worker: Worker | undefined;
  #waiting: Waiting | undefined;
  /** Resolves when nothing is parsed, and others have been served since. */
  #turn: Promise<unknown> = Promise.resolve();
  #count = 0;
  #idle: ReturnType<typeof setTimeout> | undefined;

  /**
   * What `parseBody` makes of bytes.
   *
   * @param take gives them away when it is their turn: they are moved to the thread
   * @throws {OverloadedError} where too many bodies wait; {Error} where the thread falls over
   */
  async parse(take: () => Uint8Array<ArrayBuffer>): Promise<JsonReply> {
    if (this.#count >= MOST) throw tooMany(this.#count);
    this.#count++;
    const reply = this.#turn.then(() => this.#ask(take()));
    const pause = () => new Promise((resolve) => setTimeout(resolve, 0));
    this.#turn = reply.then(pause, pause);
    try {
      return await reply;
    } finally {
      this.#count--;
    }
  }

  /** Whoever waits for it is told; the next body starts another one. */
  [Symbol.dispose](): void {
    this.#end(new Error("Cannot parse a body: its thread was ended"));
  }

  #ask(bytes: Uint8Array<ArrayBuffer>): Promise<JsonReply> {
    clearTimeout(this.#idle);
    const { promise, resolve, reject } = Promise.withResolvers<JsonReply>();
    this.#waiting = { resolve, reject };
    this.#worker ??= this.#start();
    this.#worker.postMessage(bytes, [bytes.buffer]);
    return promise;
  }

  #start(): Worker {
    const worker = new Worker(new URL("./json_worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<JsonReply>) => {
      this.#waiting?.resolve(data);
      this.#waiting = undefined;
      this.#idle = setTimeout(() => this[Symbol.dispose](), IDLE_MS);
      Deno.unrefTimer(this.#idle);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#end(new Error(`Cannot parse a body: its thread ended: ${event.message}`));
    };
    return worker;
  }

  #end(error: Error): void {
    clearTimeout(this.#idle);
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }
}

function tooMany(count: number): OverloadedError {
  return new OverloadedError(
    `Too many long bodies wait to be parsed: ${count}. Try again later, or send fewer at a time.`,
    RETRY_SECONDS,
  );
}
