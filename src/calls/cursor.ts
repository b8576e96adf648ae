/**
 * Characters as they come, for readers that are written as if all were there: a reader is a generator
 * that waits for the next one. `undefined` is the end of the text.
 */
import { JsonScanner } from "./json_scanner.ts";

/** A reader of a part of the text, and what it makes of it. */
export type Reading<T> = Generator<void, T, string | undefined>;

/** Where a reader stands. */
export class Cursor {
  #next: { readonly character: string | undefined } | undefined;
  #taken: string;

  /** @param taken what was taken before the reader begins */
  constructor(taken: string) {
    this.#taken = taken;
  }

  /** What was taken since the last mark. */
  get taken(): string {
    return this.#taken;
  }

  /** The character that was looked at and not taken. */
  get left(): string {
    return this.#next?.character ?? "";
  }

  /** All that was taken is settled: it belongs to a call that stands. */
  mark(): void {
    this.#taken = "";
  }

  *peek(): Reading<string | undefined> {
    this.#next ??= { character: yield };
    return this.#next.character;
  }

  *take(): Reading<string | undefined> {
    const character = yield* this.peek();
    if (character === undefined) return undefined;
    this.#next = undefined;
    this.#taken += character;
    return character;
  }

  /** The next character where it is this one. */
  *takeIf(wanted: string): Reading<boolean> {
    if ((yield* this.peek()) !== wanted) return false;
    yield* this.take();
    return true;
  }

  *blanks(): Reading<void> {
    for (;;) {
      const character = yield* this.peek();
      if (character === undefined || !/\s/.test(character)) return;
      yield* this.take();
    }
  }

  /** Characters that fit, as many as come. */
  *while(fits: RegExp): Reading<string> {
    let text = "";
    for (;;) {
      const character = yield* this.peek();
      if (character === undefined || !fits.test(character)) return text;
      text += character;
      yield* this.take();
    }
  }

  /** A text that is to come next; where the end of all comes within it, it counts as there. */
  *literal(text: string): Reading<boolean> {
    for (const character of text) {
      if ((yield* this.peek()) === undefined) return true;
      if (!(yield* this.takeIf(character))) return false;
    }
    return true;
  }

  /**
   * A JSON value; `write` gets its characters as they come.
   * @returns whether it was one
   */
  *json(write: (text: string) => void): Reading<boolean> {
    const scanner = new JsonScanner();
    for (;;) {
      const character = yield* this.peek();
      if (character === undefined) return scanner.complete;
      const found = scanner.push(character);
      if (found === "fault") return scanner.complete;
      yield* this.take();
      write(character);
      if (found === "done") return true;
    }
  }

  /** A JSON string's value; undefined where there is none. */
  *jsonString(): Reading<string | undefined> {
    if ((yield* this.peek()) !== '"') return undefined;
    let text = "";
    const whole = yield* this.json((piece) => text += piece);
    return whole ? JSON.parse(text) as string : undefined;
  }
}
