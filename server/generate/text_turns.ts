/**
 * Who has the thread for long texts next. It reads one text at a time, for seconds where that is long,
 * so tenants take turns, however many texts each of them sends, and few may wait.
 */
import {
  buffersOf,
  type Prompt,
  type PromptOptions,
  type PromptTokens,
} from "../../src/checkpoint/text/prompt.ts";
import type { TemplateChoice } from "../../src/checkpoint/checkpoint.ts";
import type { TextWork } from "../../src/checkpoint/text/text_worker.ts";
import { OverloadedError } from "../../src/util/errors.ts";
import { WorkerThread } from "../../src/util/worker_thread.ts";

/** Whose text it is, and whether it is still wanted. */
export interface TextCaller {
  readonly tenant: string;
  readonly signal: AbortSignal;
}

/** Texts that wait, of one tenant and of all: each may be as long as a body. */
const MOST_OF_TENANT = 16;
const MOST = 128;

/** What a client that was refused is to wait. */
const RETRY_SECONDS = 5;

type Start = () => void;

/** A thread for long texts that tenants share. */
export class TextTurns implements Disposable {
  readonly #path: string;
  readonly #template: TemplateChoice | undefined;
  readonly #thread = new WorkerThread<TextWork>({
    module: new URL("../../src/checkpoint/text/text_worker.ts", import.meta.url),
    failure: "Cannot read a text",
  });
  /** By tenant, who is next first. A tenant without a text that waits is not there. */
  readonly #waiting = new Map<string, Start[]>();
  #count = 0;
  #busy = false;

  /**
   * @param path of the checkpoint, as `openCheckpoint` takes it
   * @param template as the checkpoint was opened with
   */
  constructor(path: string, template?: TemplateChoice) {
    this.#path = path;
    this.#template = template;
  }

  /** Starts the thread before there is a text: a start holds up the event loop. */
  start(): void {
    this.#thread.start();
  }

  /**
   * As `promptTokens`. The bytes of long texts are gone from here with their turn.
   *
   * @throws {OverloadedError} where too many texts wait; what the caller left with before its turn
   */
  read(caller: TextCaller, prompt: Prompt, options: PromptOptions): Promise<PromptTokens> {
    return this.#inTurn(caller, async () => {
      const transfer = buffersOf(prompt);
      const asked = { path: this.#path, template: this.#template, prompt, options };
      const tokens = await this.#thread.call("read", asked, { transfer });
      return tokens.type === "ids" ? { ...tokens, ids: [...tokens.ids] } : tokens;
    });
  }

  [Symbol.dispose](): void {
    this.#thread[Symbol.dispose]();
  }

  async #inTurn<T>({ tenant, signal }: TextCaller, work: () => Promise<T>): Promise<T> {
    if (this.#busy) await this.#wait(tenant);
    this.#busy = true;
    try {
      signal.throwIfAborted();
      return await work();
    } finally {
      this.#next();
    }
  }

  /** Resolves with the thread handed over: it stays busy meanwhile. */
  #wait(tenant: string): Promise<void> {
    const own = this.#waiting.get(tenant) ?? [];
    if (own.length >= MOST_OF_TENANT) throw tooMany("tenant", own.length);
    if (this.#count >= MOST) throw tooMany("server", this.#count);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(tenant, [...own, resolve]);
    this.#count++;
    return promise;
  }

  /** The first tenant's first text; the tenant then goes behind the others. */
  #next(): void {
    const [first] = this.#waiting;
    if (first === undefined) {
      this.#busy = false;
      return;
    }
    const [tenant, [start, ...others]] = first;
    this.#waiting.delete(tenant);
    if (others.length > 0) this.#waiting.set(tenant, others);
    this.#count--;
    start?.();
  }
}

function tooMany(scope: "server" | "tenant", count: number): OverloadedError {
  const whose = scope === "tenant" ? "of this tenant" : "of all tenants";
  return new OverloadedError(
    `Too many long texts wait to be read: ${count} ${whose}. Try again later, or send fewer at a time.`,
    RETRY_SECONDS,
    scope,
  );
}
