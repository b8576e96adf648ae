/**
 * A schema's `pattern` as the grammar library may have it. The library matches a pattern against a
 * string's raw JSON, so `.` would match a closing quote or a bare line break: here every character
 * of the pattern becomes what JSON spells it as, and sets lose what a JSON string cannot hold bare.
 * The library anchors patterns at both ends; the strings it allows are some of those that match.
 */

/** Inclusive code points. */
type Range = readonly [number, number];

const LAST = 0x10FFFF;
/** Everything a JSON string holds bare: no control characters, no quote, no backslash. */
const BARE: readonly Range[] = [[0x20, 0x21], [0x23, 0x5B], [0x5D, LAST]];
const DIGITS: readonly Range[] = [[0x30, 0x39]];
const WORD: readonly Range[] = [[0x30, 0x39], [0x41, 0x5A], [0x5F, 0x5F], [0x61, 0x7A]];
const SPACE: readonly Range[] = [[0x09, 0x0D], [0x20, 0x20], [0xA0, 0xA0]];
const SETS: Readonly<Record<string, readonly Range[]>> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
};
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 };
/** What JSON spells with a backslash and a letter. */
const SPELLED = new Map([[8, "b"], [9, "t"], [10, "n"], [12, "f"], [13, "r"], [34, '"'], [
  92,
  "\\",
]]);
const QUANTIFIER = /^(?:[*+?]|\{(\d+)(?:(,)(\d*))?\})/;

/** Strings of `least` to `most` characters that need no escape; cheaper to compile than with. */
export function lengthPattern(least: number, most: number | undefined): string {
  return `^${setOf(BARE)}{${least},${most ?? ""}}$`;
}

/**
 * Rewrites a pattern (ECMA 262).
 * @throws {TypeError} saying what in it cannot be expressed.
 */
export function jsonPattern(pattern: string, mostRepetitions: number): string {
  const reader = new PatternReader(pattern, mostRepetitions);
  return `^(${reader.read()})$`;
}

class PatternReader {
  readonly #text: string;
  readonly #mostRepetitions: number;
  #at = 0;

  constructor(pattern: string, mostRepetitions: number) {
    this.#text = pattern.replace(/^\^/, "").replace(/(?<!\\)\$$/, "");
    this.#mostRepetitions = mostRepetitions;
  }

  read(): string {
    let result = "";
    while (this.#at < this.#text.length) result += this.#piece();
    return result;
  }

  #piece(): string {
    const quantifier = QUANTIFIER.exec(this.#text.slice(this.#at));
    if (quantifier !== null) return this.#quantifier(quantifier);
    const character = this.#next();
    if (character === "(") return this.#group();
    if (character === ")" || character === "|") return character;
    if (character === "^" || character === "$") this.#refuse(`${character} within it`);
    if (character === ".") return setOf(BARE);
    if (character === "[") return this.#set();
    if (character !== "\\") return literal(character.codePointAt(0) ?? 0);
    const set = SETS[this.#text.charAt(this.#at)];
    if (set === undefined) return literal(this.#escaped());
    this.#at++;
    return this.#bare(set);
  }

  #quantifier([text, least, , most]: RegExpExecArray): string {
    for (const count of [least, most]) {
      if (Number(count ?? 0) > this.#mostRepetitions) {
        this.#refuse(`more than ${this.#mostRepetitions} repetitions`);
      }
    }
    this.#at += text.length;
    if (this.#text.charAt(this.#at) === "?") this.#at++;
    return text;
  }

  #group(): string {
    if (this.#text.charAt(this.#at) !== "?") return "(";
    if (!this.#text.startsWith("?:", this.#at)) this.#refuse("a look-around or a named group");
    this.#at += 2;
    return "(";
  }

  #set(): string {
    const negated = this.#text.charAt(this.#at) === "^";
    if (negated) this.#at++;
    const ranges: Range[] = [];
    while (this.#text.charAt(this.#at) !== "]") ranges.push(...this.#member());
    this.#at++;
    return this.#bare(negated ? complement(ranges) : ranges);
  }

  #member(): readonly Range[] {
    const set = this.#text.charAt(this.#at) === "\\"
      ? SETS[this.#text.charAt(this.#at + 1)]
      : undefined;
    if (set !== undefined) {
      this.#at += 2;
      return set;
    }
    const first = this.#memberPoint();
    if (!/^-[^\]]/.test(this.#text.slice(this.#at))) return [[first, first]];
    this.#at++;
    const last = this.#memberPoint();
    if (last < first) this.#refuse("a range that runs backwards");
    return [[first, last]];
  }

  #memberPoint(): number {
    const character = this.#next();
    if (character !== "\\") return character.codePointAt(0) ?? 0;
    if (this.#text.charAt(this.#at) !== "b") return this.#escaped();
    this.#at++;
    return 8;
  }

  /** The code point behind a backslash. */
  #escaped(): number {
    const hex = /^(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))/.exec(this.#text.slice(this.#at));
    if (hex !== null) {
      this.#at += hex[0].length;
      return parseInt(hex[1] ?? hex[2] ?? "", 16);
    }
    const character = this.#next();
    const control = CONTROLS[character];
    if (control !== undefined) return control;
    if (/[a-zA-Z0-9]/.test(character)) this.#refuse(`\\${character}`);
    return character.codePointAt(0) ?? 0;
  }

  #bare(ranges: readonly Range[]): string {
    const bare = intersect(ranges, BARE);
    if (bare.length === 0) this.#refuse("a set of characters that JSON strings do not hold bare");
    return setOf(bare);
  }

  #next(): string {
    const point = this.#text.codePointAt(this.#at);
    if (point === undefined) return this.#refuse("no end");
    const character = String.fromCodePoint(point);
    this.#at += character.length;
    return character;
  }

  #refuse(what: string): never {
    throw new TypeError(`the pattern ${JSON.stringify(this.#text)} has ${what}`);
  }
}

/** One character of the string as JSON spells it, as a regular expression. */
function literal(point: number): string {
  const spelled = SPELLED.get(point);
  if (spelled !== undefined) return `(\\\\${escapePoint(spelled.charCodeAt(0))})`;
  if (point < 0x20) return `(\\\\u${point.toString(16).padStart(4, "0")})`;
  return escapePoint(point);
}

function escapePoint(point: number): string {
  if (point < 0x20) return `\\x${point.toString(16).padStart(2, "0")}`;
  const character = String.fromCodePoint(point);
  return /[\\^$.*+?()[\]{}|/-]/.test(character) ? `\\${character}` : character;
}

/** Negated where only ASCII is missing: the library counts a wide set's bytes, not its characters. */
function setOf(ranges: readonly Range[]): string {
  const missing = complement(ranges);
  if (missing.every(([, last]) => last < 0x80)) return `[^${spellRanges(missing)}]`;
  return `[${spellRanges(ranges)}]`;
}

function spellRanges(ranges: readonly Range[]): string {
  const parts = ranges.map(([first, last]) =>
    first === last ? escapePoint(first) : `${escapePoint(first)}-${escapePoint(last)}`
  );
  return parts.join("");
}

function complement(ranges: readonly Range[]): readonly Range[] {
  const sorted = [...ranges].sort((a, b) => a[0] - b[0]);
  const gaps: Range[] = [];
  let from = 0;
  for (const [first, last] of sorted) {
    if (first > from) gaps.push([from, first - 1]);
    from = Math.max(from, last + 1);
  }
  return from > LAST ? gaps : [...gaps, [from, LAST]];
}

function intersect(a: readonly Range[], b: readonly Range[]): readonly Range[] {
  return a.flatMap(([first, last]) =>
    b.flatMap(([low, high]): Range[] => {
      const range: Range = [Math.max(first, low), Math.min(last, high)];
      return range[0] <= range[1] ? [range] : [];
    })
  );
}
