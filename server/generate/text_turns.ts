/**
 * Who has the thread for long texts next. It reads one text at a time, for seconds where that is long,
 * so tenants take turns, however many texts each of them sends, and few may wait.
 */
import type { TextThread } from "../../src/checkpoint/text/text_thread.ts";
import { OverloadedError } from "../../src/util/errors.ts";

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
export class TextTurns {
  readonly #thread: Pick<TextThread, "encode" | "render">;
  /** By tenant, who is next first. A tenant without a text that waits is not there. */
  readonly #waiting = new Map<string, Start[]>();
  #count = 0;
  #busy = false;

  constructor(thread: Pick<TextThread, "encode" | "render">) {
    this.#thread = thread;
  }

  /** As `TextThread.encode`. @throws {OverloadedError} where too many texts wait */
  encode(
    caller: TextCaller,
    ...[text, options]: Parameters<TextThread["encode"]>
  ): Promise<readonly number[]> {
    return this.#inTurn(caller, () => this.#thread.encode(text, options, caller.signal));
  }

  /** As `TextThread.render`. @throws {OverloadedError} where too many texts wait */
  render(
    caller: TextCaller,
    ...[messages, options]: Parameters<TextThread["render"]>
  ): Promise<string> {
    return this.#inTurn(caller, () => this.#thread.render(messages, options, caller.signal));
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
