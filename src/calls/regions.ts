/**
 * The parts of a text in which calls stand, in each way of writing them: one reader a format. It gives
 * false where the text cannot be read on as calls; the calls before that stand.
 */
import type { CallEvents } from "./call_events.ts";
import type { Cursor, Reading } from "./cursor.ts";
import { callArguments, objectCall, settle } from "./object_call.ts";
import { pythonLiteral } from "./python_literal.ts";

/** Reads a region, up to the first character that is no part of it. */
export type RegionReader = (cursor: Cursor, events: CallEvents) => Reading<boolean>;

/** Objects one after the other, and what closes them. Some models leave the end out. */
export function objects(close: string): RegionReader {
  return function* (cursor, events) {
    do {
      yield* cursor.blanks();
      if (!(yield* objectCall(cursor, events))) return false;
      yield* cursor.blanks();
    } while ((yield* cursor.peek()) === "{");
    if (yield* cursor.literal(close)) cursor.mark();
    return true;
  };
}

/** Llama 3's objects, one or several with semicolons. */
export function* llamaObjects(cursor: Cursor, events: CallEvents): Reading<boolean> {
  do {
    yield* cursor.blanks();
    if (!(yield* objectCall(cursor, events))) return false;
    yield* cursor.blanks();
    if (yield* cursor.takeIf(";")) cursor.mark();
    yield* cursor.blanks();
  } while ((yield* cursor.peek()) === "{");
  return true;
}

/** Mistral's list of objects, or in its newer models a name with its arguments. */
export function* mistralCalls(cursor: Cursor, events: CallEvents): Reading<boolean> {
  yield* cursor.blanks();
  if (!(yield* cursor.takeIf("["))) return yield* namedArguments(cursor, events);
  do {
    yield* cursor.blanks();
    if (!(yield* objectCall(cursor, events))) return false;
    yield* cursor.blanks();
  } while (yield* cursor.takeIf(","));
  if (yield* cursor.takeIf("]")) cursor.mark();
  return true;
}

/** `name{…}`, `name[ARGS]{…}` or `name[CALL_ID]id[ARGS]{…}`. */
function* namedArguments(cursor: Cursor, events: CallEvents): Reading<boolean> {
  const name = yield* cursor.while(/[\w.-]/);
  if (!events.begin(name)) return false;
  while (yield* cursor.takeIf("[")) {
    const mark = yield* cursor.while(/[A-Z_]/);
    if (!(yield* cursor.takeIf("]"))) return false;
    if (mark === "CALL_ID") yield* cursor.while(/\w/);
    else if (mark !== "ARGS") return false;
  }
  yield* cursor.blanks();
  return yield* callArguments(cursor, events);
}

/** Python's calls with keywords, in a list: `[f(a=1), g()]`. */
export function* pythonicCalls(cursor: Cursor, events: CallEvents): Reading<boolean> {
  yield* cursor.blanks();
  if (!(yield* cursor.takeIf("["))) return false;
  do {
    yield* cursor.blanks();
    const name = yield* cursor.while(/[\w.-]/);
    if (!(yield* cursor.takeIf("(")) || !events.begin(name)) return false;
    if (!(yield* keywords(cursor, events))) return false;
    settle(cursor, events);
    yield* cursor.blanks();
  } while (yield* cursor.takeIf(","));
  if (!(yield* cursor.takeIf("]"))) return (yield* cursor.peek()) === undefined;
  yield* cursor.literal("<|python_end|>");
  cursor.mark();
  return true;
}

/** A call's keywords up to its closing bracket, as the members of an object. */
function* keywords(cursor: Cursor, events: CallEvents): Reading<boolean> {
  events.write("{");
  for (let count = 0;; count++) {
    yield* cursor.blanks();
    if (yield* cursor.takeIf(")")) break;
    const name = yield* cursor.while(/\w/);
    yield* cursor.blanks();
    if (name === "" || !(yield* cursor.takeIf("="))) return false;
    yield* cursor.blanks();
    const value = yield* pythonLiteral(cursor);
    if (value === undefined) return false;
    yield* cursor.blanks();
    const next = yield* cursor.peek();
    if (next !== "," && next !== ")") return false;
    events.write(`${count === 0 ? "" : ", "}${JSON.stringify(name)}: ${value}`);
    yield* cursor.takeIf(",");
  }
  events.write("}");
  return true;
}
