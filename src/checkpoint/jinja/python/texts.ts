/** Python's notions of white space, lines and cases of a text, which are not JavaScript's. */

/** `str.isspace`: not Unicode's White_Space alone, and without JavaScript's U+FEFF. */
const SPACE =
  "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const LEADING = new RegExp(`^${SPACE}+`);
const TRAILING = new RegExp(`${SPACE}+$`);
const SPACES = new RegExp(`${SPACE}+`);
// deno-lint-ignore no-control-regex -- Python ends lines at these
const LINE_END = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/g;

/** Which ends are stripped. */
export type Ends = "both" | "left" | "right";

/** `str.strip` and its like; of these characters where they are given. */
export function strip(text: string, ends: Ends, characters: string | undefined): string {
  if (characters === undefined) {
    const left = ends === "right" ? text : text.replace(LEADING, "");
    return ends === "left" ? left : left.replace(TRAILING, "");
  }
  const set = new Set(characters);
  const points = [...text];
  let start = 0;
  let stop = points.length;
  if (ends !== "right") { while (start < stop && set.has(points[start] ?? "")) start++; }
  if (ends !== "left") { while (start < stop && set.has(points[stop - 1] ?? "")) stop--; }
  return points.slice(start, stop).join("");
}

/** `str.split`; at white space without a separator. @param most splits, all where negative */
export function split(text: string, separator: string | undefined, most: number): string[] {
  const limit = most < 0 ? Infinity : most;
  const parts: string[] = [];
  if (separator === "") throw new RangeError("empty separator");
  let rest = separator === undefined ? strip(text, "left", undefined) : text;
  while (parts.length < limit && (rest !== "" || separator !== undefined)) {
    const [at, width] = nextCut(rest, separator);
    if (at < 0) break;
    parts.push(rest.slice(0, at));
    rest = rest.slice(at + width);
  }
  if (separator === undefined) {
    const last = parts.length < limit ? strip(rest, "right", undefined) : rest;
    return last === "" ? parts : [...parts, last];
  }
  return [...parts, rest];
}

function nextCut(text: string, separator: string | undefined): readonly [number, number] {
  if (separator !== undefined) return [text.indexOf(separator), separator.length];
  const match = SPACES.exec(text);
  return match === null ? [-1, 0] : [match.index, match[0].length];
}

/** `str.rsplit`. */
export function splitFromRight(
  text: string,
  separator: string | undefined,
  most: number,
): string[] {
  const back = (one: string): string => [...one].reverse().join("");
  const parts = split(back(text), separator === undefined ? undefined : back(separator), most);
  return parts.map(back).reverse();
}

/** `str.splitlines`. */
export function lines(text: string, keepEnds = false): string[] {
  const found: string[] = [];
  let start = 0;
  for (const { 0: end, index } of text.matchAll(LINE_END)) {
    found.push(text.slice(start, keepEnds ? index + end.length : index));
    start = index + end.length;
  }
  return start < text.length ? [...found, text.slice(start)] : found;
}

/** `str.capitalize`. */
export function capitalize(text: string): string {
  const [first = "", ...rest] = [...text];
  return first.toUpperCase() + rest.join("").toLowerCase();
}

/** `str.center`, which puts the odd one to the left of a text of odd length. */
export function center(text: string, width: number, fill: string): string {
  const room = Math.max(0, width - [...text].length);
  const left = Math.floor(room / 2) + (room & width & 1);
  return fill.repeat(left) + text + fill.repeat(room - left);
}

/** `str.title`: a capital at the start of each run of letters. */
export function title(text: string): string {
  return text.replace(/\p{Alphabetic}+/gu, capitalize);
}

/** `str.replace`; all where `most` is undefined or negative. */
export function replace(
  text: string,
  old: string,
  by: string,
  most: number | undefined,
): string {
  if (most === undefined || most < 0) return text.replaceAll(old, () => by);
  if (old !== "") {
    const parts = split(text, old, most);
    return parts.join(by);
  }
  const points = [...text];
  return points.map((point, i) => i < most ? by + point : point).join("") +
    (most > points.length ? by : "");
}
