/**
 * Text with calls in it, read character by character: what cannot begin a call goes out at once, what
 * may is held back, and blanks before a call go with it.
 */
import { CallEvents } from "./call_events.ts";
import { Cursor, type Reading } from "./cursor.ts";
import type { CallEvent, CallParser, TextEnd } from "./parser.ts";
import type { RegionReader } from "./regions.ts";

/** What begins a region of calls. */
export interface Opener {
  readonly text: string;
  /** Whether it counts only where nothing but blanks was before. */
  readonly first?: boolean;
  /** Whether it is the first character of the calls themselves. */
  readonly inside?: boolean;
  readonly read: RegionReader;
}

interface Region {
  readonly cursor: Cursor;
  readonly reading: Reading<boolean>;
}

/** Blanks that are held back: a model may write them without end. */
const MOST_BLANKS = 64;

/** Reads one text by the openers of a format. */
export class CallReader implements CallParser {
  readonly #openers: readonly Opener[];
  readonly #events: CallEvents;
  /** Blanks, and behind them what may be an opener. */
  #held = "";
  #region: Region | undefined;
  /** Whether nothing but blanks and calls has come. */
  #first = true;

  /** @param names of the functions that there are */
  constructor(openers: readonly Opener[], names: Iterable<string>) {
    this.#openers = openers;
    this.#events = new CallEvents(names);
  }

  push(text: string): readonly CallEvent[] {
    for (const character of text) this.#push(character);
    return this.#events.take();
  }

  finish(end: TextEnd): readonly CallEvent[] {
    const cut = end === "cut" && this.#events.open;
    while (!cut && this.#region !== undefined) this.#push(undefined);
    // blanks behind calls are no text of theirs
    if (this.#held.trim() !== "" || !this.#events.some) this.#events.text(this.#held);
    this.#held = "";
    return this.#events.take();
  }

  #push(character: string | undefined): void {
    const region = this.#region;
    if (region === undefined) return character === undefined ? undefined : this.#hold(character);
    const { done, value } = region.reading.next(character);
    if (!done) return;
    this.#region = undefined;
    const { taken, left } = region.cursor;
    if (value) return this.#again(taken + left);
    this.#events.fail(taken);
    this.#first = false;
    this.#again(left);
  }

  #again(text: string): void {
    for (const character of text) this.#push(character);
  }

  #hold(character: string): void {
    this.#held += character;
    for (;;) {
      const word = this.#held.trimStart();
      if (word === "") {
        if (this.#held.length > MOST_BLANKS) this.#release(1);
        return;
      }
      const openers = this.#openers.filter(({ text, first }) =>
        text.startsWith(word) && (this.#first || !first)
      );
      const opener = openers.find(({ text }) => text === word);
      if (opener !== undefined) return this.#open(opener);
      if (openers.length > 0) return;
      this.#first = false;
      this.#release(this.#held.length - word.length || 1);
    }
  }

  #release(count: number): void {
    this.#events.text(this.#held.slice(0, count));
    this.#held = this.#held.slice(count);
  }

  #open({ text, inside, read }: Opener): void {
    const before = inside ? this.#held.slice(0, -text.length) : this.#held;
    const cursor = new Cursor(before);
    const reading = read(cursor, this.#events);
    this.#held = "";
    this.#region = { cursor, reading };
    reading.next();
    if (inside) this.#again(text);
  }
}
