/** Python's literals as JSON text: what stands behind a keyword of a pythonic call. */
import type { Cursor, Reading } from "./cursor.ts";

const WORDS: Readonly<Record<string, string>> = {
  True: "true",
  False: "false",
  None: "null",
  true: "true",
  false: "false",
  null: "null",
};

const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  t: "\t",
  r: "\r",
  b: "\b",
  f: "\f",
  v: "\v",
  a: "\x07",
  "0": "\0",
  "\n": "",
};

/** Hexadecimal digits of an escape. */
const DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

const MAX_DEPTH = 100;

/** @returns its JSON text; undefined where it is no literal, or none that JSON has */
export function* pythonLiteral(cursor: Cursor, depth = 0): Reading<string | undefined> {
  const first = yield* cursor.peek();
  if (first === undefined || depth > MAX_DEPTH) return undefined;
  if (first === '"' || first === "'") {
    const text = yield* string(cursor);
    return text === undefined ? undefined : JSON.stringify(text);
  }
  if (first === "[") return yield* list(cursor, "]", depth);
  if (first === "(") return yield* list(cursor, ")", depth);
  if (first === "{") return yield* dict(cursor, depth);
  if (/[-+.\d]/.test(first)) return numberText(yield* cursor.while(/[-+.\w]/));
  return WORDS[yield* cursor.while(/[A-Za-z]/)];
}

function numberText(text: string): string | undefined {
  const digits = text.replaceAll("_", "");
  if (/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/.test(digits)) return digits;
  const value = digits === "" ? NaN : Number(digits);
  return Number.isFinite(value) ? String(value) : undefined;
}

function* string(cursor: Cursor): Reading<string | undefined> {
  const quote = yield* cursor.take();
  let text = "";
  for (;;) {
    const character = yield* cursor.take();
    if (character === undefined) return undefined;
    if (character === quote) return text;
    text += character === "\\" ? yield* escaped(cursor) : character;
  }
}

/** What stands behind a backslash. One that Python does not know stays with its backslash. */
function* escaped(cursor: Cursor): Reading<string> {
  const character = (yield* cursor.take()) ?? "";
  const digits = DIGITS[character];
  if (digits === undefined) {
    const known = /["'\\/]/.test(character) ? character : ESCAPES[character];
    return known ?? `\\${character}`;
  }
  let hex = "";
  while (hex.length < digits && /[0-9a-fA-F]/.test((yield* cursor.peek()) ?? "")) {
    hex += yield* cursor.take();
  }
  const point = parseInt(hex, 16);
  return hex.length === digits && point <= 0x10ffff ? codeUnits(point) : `\\${character}${hex}`;
}

/** Halves of a character may come as two escapes, as JSON writes them. */
function codeUnits(point: number): string {
  return point > 0xffff ? String.fromCodePoint(point) : String.fromCharCode(point);
}

function* list(cursor: Cursor, close: string, depth: number): Reading<string | undefined> {
  yield* cursor.take();
  const items: string[] = [];
  for (;;) {
    yield* cursor.blanks();
    if (yield* cursor.takeIf(close)) return `[${items.join(", ")}]`;
    const item = yield* pythonLiteral(cursor, depth + 1);
    if (item === undefined) return undefined;
    items.push(item);
    yield* cursor.blanks();
    if (!(yield* cursor.takeIf(",")) && (yield* cursor.peek()) !== close) return undefined;
  }
}

function* dict(cursor: Cursor, depth: number): Reading<string | undefined> {
  yield* cursor.take();
  const members: string[] = [];
  for (;;) {
    yield* cursor.blanks();
    if (yield* cursor.takeIf("}")) return `{${members.join(", ")}}`;
    const key = yield* pythonLiteral(cursor, depth + 1);
    yield* cursor.blanks();
    if (!key?.startsWith('"') || !(yield* cursor.takeIf(":"))) return undefined;
    yield* cursor.blanks();
    const value = yield* pythonLiteral(cursor, depth + 1);
    if (value === undefined) return undefined;
    members.push(`${key}: ${value}`);
    yield* cursor.blanks();
    if (!(yield* cursor.takeIf(",")) && (yield* cursor.peek()) !== "}") return undefined;
  }
}
