/** A thread for JSON bodies that would hold up the event loop: one at a time, and few may wait. */
import { OverloadedError } from "../../src/util/errors.ts";
import type { Moved } from "../../src/util/worker_serve.ts";
import { WorkerThread } from "../../src/util/worker_thread.ts";
import type { ErrorDetails, ErrorStatus } from "../errors.ts";

/** Bodies that wait: each may be of megabytes. */
const MOST = 128;

/** What a client that was refused is to wait. */
const RETRY_SECONDS = 5;

export type JsonReply =
  /** Long texts of prompts are UTF-8 bytes. */
  | { readonly type: "value"; readonly value: unknown }
  /** Checked, and to be parsed by who asked. */
  | { readonly type: "text"; readonly text: string }
  | {
    readonly type: "refused";
    readonly status: ErrorStatus;
    readonly message: string;
    readonly details: ErrorDetails;
  };

/** What `json_worker.ts` does. */
export type JsonWork = {
  readonly parse: (bytes: Uint8Array) => JsonReply | Moved<JsonReply>;
};

export class JsonThread implements Disposable {
  readonly #thread = new WorkerThread<JsonWork>({
    module: new URL("./json_worker.ts", import.meta.url),
    failure: "Cannot parse a body",
  });
  /** Resolves when nothing is parsed, and others have been served since. */
  #turn: Promise<unknown> = Promise.resolve();
  #count = 0;

  /** Starts the thread before there is a body: a start holds up the event loop. */
  start(): void {
    this.#thread.start();
  }

  /**
   * What `parseBody` makes of bytes.
   *
   * @param take gives them away when it is their turn: they are moved to the thread
   * @throws {OverloadedError} where too many bodies wait; {Error} where the thread falls over
   */
  async parse(take: () => Uint8Array<ArrayBuffer>): Promise<JsonReply> {
    if (this.#count >= MOST) throw tooMany(this.#count);
    this.#count++;
    let start = 0;
    const reply = this.#turn.then(() => {
      start = performance.now();
      return this.#ask(take());
    });
    // as long as it took: what becomes of the body takes a core, too, and where there are few of them
    // the event loop would wait for one
    const pause = () => new Promise((resolve) => setTimeout(resolve, performance.now() - start));
    this.#turn = reply.then(pause, pause);
    try {
      return await reply;
    } finally {
      this.#count--;
    }
  }

  /** Whoever waits for it is told; the next body starts another one. */
  [Symbol.dispose](): void {
    this.#thread[Symbol.dispose]();
  }

  #ask(bytes: Uint8Array<ArrayBuffer>): Promise<JsonReply> {
    return this.#thread.call("parse", bytes, { transfer: [bytes.buffer] });
  }
}

function tooMany(count: number): OverloadedError {
  return new OverloadedError(
    `Too many long bodies wait to be parsed: ${count}. Try again later, or send fewer at a time.`,
    RETRY_SECONDS,
  );
}
