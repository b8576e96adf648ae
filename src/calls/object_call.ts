/**
 * A call as a JSON object: `{"name": …, "arguments": {…}}`, or `parameters` as Llama has it. Its
 * arguments go out while they come, once the name is known.
 */
import type { CallEvents } from "./call_events.ts";
import type { Cursor, Reading } from "./cursor.ts";

/** Keys of a call. Any other says that the object is none. */
const ARGUMENTS = ["arguments", "parameters"];
const PASSED_OVER = ["id", "type"];

/** @returns whether it was a call of a function that there is; its end is marked */
export function* objectCall(cursor: Cursor, events: CallEvents): Reading<boolean> {
  const reader = new ObjectReader(cursor, events);
  const good = yield* reader.read();
  if (good) settle(cursor, events);
  return good;
}

/** The arguments alone, of a call that has begun. */
export function* callArguments(cursor: Cursor, events: CallEvents): Reading<boolean> {
  if ((yield* cursor.peek()) !== "{") return false;
  const good = yield* cursor.json((text) => events.write(text));
  if (good) settle(cursor, events);
  return good;
}

/** The call is whole: what was taken stands. */
export function settle(cursor: Cursor, events: CallEvents): void {
  events.end();
  cursor.mark();
}

class ObjectReader {
  readonly #cursor: Cursor;
  readonly #events: CallEvents;
  #name: string | undefined;
  /** Arguments that came before the name. */
  #early = "";
  #hasArguments = false;

  constructor(cursor: Cursor, events: CallEvents) {
    this.#cursor = cursor;
    this.#events = events;
  }

  *read(): Reading<boolean> {
    const cursor = this.#cursor;
    if (!(yield* cursor.takeIf("{"))) return false;
    do {
      yield* cursor.blanks();
      if (!(yield* this.#member())) return false;
      yield* cursor.blanks();
    } while (yield* cursor.takeIf(","));
    // a model may end its turn without the last brace
    const over = (yield* cursor.peek()) === undefined && this.#hasArguments;
    if (!over && !(yield* cursor.takeIf("}"))) return false;
    if (this.#name === undefined) return false;
    if (!this.#hasArguments) this.#events.write("{}");
    return true;
  }

  *#member(): Reading<boolean> {
    const cursor = this.#cursor;
    const key = yield* cursor.jsonString();
    yield* cursor.blanks();
    if (key === undefined || !(yield* cursor.takeIf(":"))) return false;
    yield* cursor.blanks();
    if (key === "name") return yield* this.#readName();
    if (ARGUMENTS.includes(key)) return yield* this.#readArguments();
    return PASSED_OVER.includes(key) && (yield* cursor.json(() => {}));
  }

  *#readName(): Reading<boolean> {
    const name = yield* this.#cursor.jsonString();
    if (name === undefined || this.#name !== undefined || !this.#events.begin(name)) return false;
    this.#name = name;
    this.#events.write(this.#early);
    return true;
  }

  *#readArguments(): Reading<boolean> {
    if (this.#hasArguments) return false;
    this.#hasArguments = true;
    switch (yield* this.#cursor.peek()) {
      case "{":
        return yield* this.#cursor.json((text) => this.#write(text));
      case '"':
        return this.#writeObject(yield* this.#cursor.jsonString());
      case "n":
        this.#write("{}");
        return yield* this.#cursor.json(() => {});
      default:
        return false;
    }
  }

  /** Some models write the object as a string once more. */
  #writeObject(text: string | undefined): boolean {
    if (text === undefined || !isObject(text)) return false;
    this.#write(text);
    return true;
  }

  #write(text: string): void {
    if (this.#name === undefined) this.#early += text;
    else this.#events.write(text);
  }
}

function isObject(json: string): boolean {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
