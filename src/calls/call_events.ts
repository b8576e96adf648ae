/** Gathers what a parser finds into events: neighbours of one kind are one. */
import type { CallEvent } from "./parser.ts";

/** The events of one text. */
export class CallEvents {
  readonly #names: ReadonlySet<string>;
  #events: CallEvent[] = [];
  #begun = 0;
  #ended = 0;
  #whole = 0;

  /** @param names of the functions that there are */
  constructor(names: Iterable<string>) {
    this.#names = new Set(names);
  }

  /** Whether there was a call that stands. */
  get some(): boolean {
    return this.#whole > 0;
  }

  /** Whether a call has begun and not ended. */
  get open(): boolean {
    return this.#begun > this.#ended;
  }

  text(text: string): void {
    if (text === "") return;
    const last = this.#events.at(-1);
    if (last?.type !== "text") this.#events.push({ type: "text", text });
    else this.#events.splice(-1, 1, { ...last, text: last.text + text });
  }

  /** @returns whether there is such a function */
  begin(name: string): boolean {
    if (!this.#names.has(name)) return false;
    this.#events.push({ type: "call", call: this.#begun++, name });
    return true;
  }

  /** More of the arguments of the call that is open. */
  write(text: string): void {
    if (text === "") return;
    const call = this.#begun - 1;
    const last = this.#events.at(-1);
    if (last?.type !== "arguments") this.#events.push({ type: "arguments", call, text });
    else this.#events.splice(-1, 1, { ...last, text: last.text + text });
  }

  /** The call that is open is whole. */
  end(): void {
    this.#whole++;
    this.#ended = this.#begun;
  }

  /** What was read as a call is none; `text` is all of it. */
  fail(text: string): void {
    if (this.open) this.#events.push({ type: "broken", call: this.#begun - 1, text });
    else this.text(text);
    this.#ended = this.#begun;
  }

  take(): readonly CallEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }
}
