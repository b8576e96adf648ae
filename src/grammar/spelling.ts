/**
 * How characters are written in JSON text and in the grammar library's EBNF. Trap: the library (as
 * of 0.1.27) reads a set with members above `\x7f` as a set of bytes, and a set with one member as
 * that character, so characters are spelled here byte by byte, and a single byte is named twice.
 */
import type { Range } from "./automata/automaton.ts";

/** Characters that JSON writes as a backslash and a letter. */
const LETTERS: ReadonlyMap<number, string> = new Map([
  [8, "b"],
  [9, "t"],
  [10, "n"],
  [12, "f"],
  [13, "r"],
  [34, '"'],
  [92, "\\"],
]);
/** The last code points whose UTF-8 encodings have 1, 2 and 3 bytes. */
const LENGTH_ENDS = [0x7F, 0x7FF, 0xFFFF];
const CONTINUATION_BITS = 6;

/** Text as an EBNF literal. */
export function literal(text: string): string {
  const spelled = [...text].map((character) => {
    const point = character.codePointAt(0) ?? 0;
    if (character === '"' || character === "\\") return `\\${character}`;
    return point >= 0x20 && point < 0x7F ? character : `\\U${hex(point, 8)}`;
  });
  return `"${spelled.join("")}"`;
}

/** A value's JSON text as an EBNF literal. */
export function jsonLiteral(value: unknown): string {
  return literal(JSON.stringify(value));
}

/**
 * Any one of these characters as written in a JSON string: alternatives, each a sequence in EBNF.
 */
export function inString(ranges: readonly Range[]): readonly string[] {
  const bare: Range[] = [];
  const escaped: string[] = [];
  for (const [first, last] of ranges) {
    for (let point = first; point <= Math.min(last, 0x5C); point++) {
      const letter = LETTERS.get(point);
      if (letter !== undefined) escaped.push(literal(`\\${letter}`));
      else if (point < 0x20) escaped.push(literal(`\\u${hex(point, 4)}`));
      else bare.push([point, point]);
    }
    if (last > 0x5C) bare.push([Math.max(first, 0x5D), last]);
  }
  return [...plain(bare), ...escaped];
}

/** Any one of these characters as it is: alternatives, each a sequence in EBNF. */
export function plain(ranges: readonly Range[]): readonly string[] {
  const ascii = ranges.filter(([first]) => first < 0x80)
    .map(([first, last]): Range => [first, Math.min(last, 0x7F)]);
  const wide = ranges.filter(([, last]) => last >= 0x80)
    .flatMap(([first, last]) => utf8([Math.max(first, 0x80), last]));
  const sequences = wide.map((bytes) => bytes.map(byteSet).join(" "));
  return ascii.length === 0 ? sequences : [asciiSet(ascii), ...sequences];
}

function asciiSet(ranges: readonly Range[]): string {
  const merged: [number, number][] = [];
  for (const [first, last] of ranges) {
    const before = merged.at(-1);
    if (before?.[1] === first - 1) before[1] = last;
    else merged.push([first, last]);
  }
  return `[${merged.map(([first, last]) => `\\x${hex(first, 2)}-\\x${hex(last, 2)}`).join("")}]`;
}

function byteSet([first, last]: Range): string {
  const [from, to] = [`\\x${hex(first, 2)}`, `\\x${hex(last, 2)}`];
  return first === last ? `[${from}${to}]` : `[${from}-${to}]`;
}

/**
 * Sequences of byte ranges for a range above ASCII without surrogates (Ken Thompson's, as RE2's).
 */
function utf8([first, last]: Range): readonly (readonly Range[])[] {
  for (const end of LENGTH_ENDS) {
    if (first <= end && end < last) return [...utf8([first, end]), ...utf8([end + 1, last])];
  }
  for (let tail = 1; tail < bytesOf(first).length; tail++) {
    const mask = (1 << (CONTINUATION_BITS * tail)) - 1;
    if ((first & ~mask) === (last & ~mask)) continue;
    if ((first & mask) !== 0) {
      return [...utf8([first, first | mask]), ...utf8([(first | mask) + 1, last])];
    }
    if ((last & mask) !== mask) {
      return [...utf8([first, (last & ~mask) - 1]), ...utf8([last & ~mask, last])];
    }
  }
  const [low, high] = [bytesOf(first), bytesOf(last)];
  return [low.map((byte, i): Range => [byte, high[i] ?? byte])];
}

function bytesOf(point: number): readonly number[] {
  return [...new TextEncoder().encode(String.fromCodePoint(point))];
}

function hex(point: number, digits: number): string {
  return point.toString(16).padStart(digits, "0");
}
