/**
 * ECMA 262 patterns (flag `u`) as automata: the automaton accepts exactly the strings for which
 * `new RegExp(pattern, "u").test(string)` holds. Look-arounds, back-references, word boundaries and
 * modifiers cannot be expressed and are refused by name.
 */
import { type Automaton, CHARACTERS, except, explore, type Range, union } from "./automaton.ts";
import { PatternMachine, type Piece } from "./pattern_machine.ts";

/** Largest count of a repetition. */
export const MOST_REPETITIONS = 256;
/** Deepest nesting of groups. */
const DEEPEST_GROUP = 64;

const DIGITS: readonly Range[] = [[0x30, 0x39]];
const WORD: readonly Range[] = [[0x30, 0x39], [0x41, 0x5A], [0x5F, 0x5F], [0x61, 0x7A]];
const LINE_ENDS: readonly Range[] = [[0x0A, 0x0A], [0x0D, 0x0D], [0x2028, 0x2029]];
const SPACE: readonly Range[] = [
  [0x09, 0x0D],
  [0x20, 0x20],
  [0xA0, 0xA0],
  [0x1680, 0x1680],
  [0x2000, 0x200A],
  [0x2028, 0x2029],
  [0x202F, 0x202F],
  [0x205F, 0x205F],
  [0x3000, 0x3000],
  [0xFEFF, 0xFEFF],
];
const SETS: ReadonlyMap<string, readonly Range[]> = new Map([
  ["d", DIGITS],
  ["D", except(CHARACTERS, DIGITS)],
  ["w", WORD],
  ["W", except(CHARACTERS, WORD)],
  ["s", SPACE],
  ["S", except(CHARACTERS, SPACE)],
]);
const CONTROLS: ReadonlyMap<string, number> = new Map([
  ["t", 9],
  ["n", 10],
  ["v", 11],
  ["f", 12],
  ["r", 13],
  ["0", 0],
]);
const QUANTIFIER = /^(?:([*+?])|\{(\d+)(,)?(\d*)\})\??/;

/**
 * The strings in which the pattern is found.
 * @throws {TypeError} saying what in it is wrong or cannot be expressed.
 * @throws {TooManyStatesError}
 */
export function patternAutomaton(pattern: string): Automaton {
  try {
    new RegExp(pattern, "u");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new TypeError(`is no pattern of ECMA 262 (flag u): ${reason}`);
  }
  return explore(new PatternMachine(new PatternReader(pattern).read()));
}

class PatternReader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(pattern: string) {
    this.#text = pattern;
  }

  read(): Piece {
    const piece = this.#choice();
    if (this.#at < this.#text.length) throw new TypeError("internal: a pattern's end is not read");
    return piece;
  }

  #choice(): Piece {
    const pieces = [this.#sequence()];
    while (this.#takes("|")) pieces.push(this.#sequence());
    return pieces.length === 1 && pieces[0] ? pieces[0] : { type: "choice", pieces };
  }

  #sequence(): Piece {
    const pieces: Piece[] = [];
    while (this.#at < this.#text.length && !/[|)]/.test(this.#text.charAt(this.#at))) {
      pieces.push(this.#quantified(this.#piece()));
    }
    return { type: "sequence", pieces };
  }

  #quantified(piece: Piece): Piece {
    const found = QUANTIFIER.exec(this.#text.slice(this.#at));
    if (found === null) return piece;
    this.#at += found[0].length;
    const [, sign, count, comma, limit] = found;
    const least = sign === undefined ? Number(count) : Number(sign === "+");
    const most = sign === undefined
      ? comma === undefined ? least : limit === "" ? undefined : Number(limit)
      : sign === "?"
      ? 1
      : undefined;
    if (Math.max(least, most ?? 0) > MOST_REPETITIONS) {
      this.#refuse(`more than ${MOST_REPETITIONS} repetitions`);
    }
    return { type: "repeat", piece, least, most };
  }

  #piece(): Piece {
    const character = this.#next();
    switch (character) {
      case "^":
        return { type: "start" };
      case "$":
        return { type: "end" };
      case ".":
        return { type: "set", ranges: except(CHARACTERS, LINE_ENDS) };
      case "(":
        return this.#group();
      case "[":
        return { type: "set", ranges: this.#set() };
      case "\\":
        return { type: "set", ranges: this.#escapedSet() ?? one(this.#escaped()) };
      default:
        return { type: "set", ranges: one(character.codePointAt(0) ?? 0) };
    }
  }

  #group(): Piece {
    const opening = /^\?(?::|<(?![=!])[^>]*>)/.exec(this.#text.slice(this.#at))?.[0];
    if (opening !== undefined) this.#at += opening.length;
    else if (this.#text.charAt(this.#at) === "?") this.#refuse("a look-around or a modifier");
    if (++this.#depth > DEEPEST_GROUP) this.#refuse(`more than ${DEEPEST_GROUP} nested groups`);
    const piece = this.#choice();
    this.#depth--;
    this.#at++;
    return piece;
  }

  #set(): readonly Range[] {
    const negated = this.#takes("^");
    const ranges: Range[] = [];
    while (!this.#takes("]")) ranges.push(...this.#member());
    const all = union(ranges);
    return negated ? except(CHARACTERS, all) : all;
  }

  #member(): readonly Range[] {
    if (this.#takes("\\")) {
      const set = this.#escapedSet();
      if (set !== undefined) return set;
      this.#at--;
    }
    const first = this.#memberPoint();
    if (!/^-[^\]]/.test(this.#text.slice(this.#at))) return [[first, first]];
    this.#at++;
    return [[first, this.#memberPoint()]];
  }

  #memberPoint(): number {
    const character = this.#next();
    if (character !== "\\") return character.codePointAt(0) ?? 0;
    return this.#takes("b") ? 8 : this.#escaped();
  }

  /** The set behind a backslash, if it names one. */
  #escapedSet(): readonly Range[] | undefined {
    const property = /^[pP]\{[^}]*\}/.exec(this.#text.slice(this.#at))?.[0];
    if (property !== undefined) {
      this.#at += property.length;
      return charactersOf(`\\${property}`);
    }
    const set = SETS.get(this.#text.charAt(this.#at));
    if (set !== undefined) this.#at++;
    return set;
  }

  /** The code point behind a backslash. */
  #escaped(): number {
    const rest = this.#text.slice(this.#at);
    const pair = /^u([dD][89abAB]\w\w)\\u([dD][c-fC-F]\w\w)/.exec(rest);
    const hex = /^(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]+)\})/.exec(rest);
    const control = /^c([a-zA-Z])/.exec(rest);
    this.#at += (pair ?? hex ?? control ?? [""])[0].length;
    if (pair !== null) {
      const units = [parseInt(pair[1] ?? "", 16), parseInt(pair[2] ?? "", 16)];
      return String.fromCharCode(...units).codePointAt(0) ?? 0;
    }
    if (hex !== null) return parseInt(hex[1] ?? hex[2] ?? hex[3] ?? "", 16);
    if (control !== null) return (control[1]?.charCodeAt(0) ?? 0) % 32;
    const character = this.#next();
    if (/[bB]/.test(character)) this.#refuse(`a word boundary (\\${character})`);
    if (/[1-9k]/.test(character)) this.#refuse(`a back-reference (\\${character})`);
    return CONTROLS.get(character) ?? character.codePointAt(0) ?? 0;
  }

  #takes(character: string): boolean {
    if (this.#text.charAt(this.#at) !== character) return false;
    this.#at++;
    return true;
  }

  #next(): string {
    const character = String.fromCodePoint(this.#text.codePointAt(this.#at) ?? 0);
    this.#at += character.length;
    return character;
  }

  #refuse(what: string): never {
    throw new TypeError(`has ${what}, which a grammar cannot express`);
  }
}

function one(point: number): readonly Range[] {
  return union([[point, point]]);
}

/** The characters that a property escape (`\p{L}`) names: the engine itself is asked. */
function charactersOf(escape: string): readonly Range[] {
  const one = new RegExp(`^${escape}$`, "u");
  const found: [number, number][] = [];
  for (const [first, last] of CHARACTERS) {
    for (let point = first; point <= last; point++) {
      if (!one.test(String.fromCodePoint(point))) continue;
      const before = found.at(-1);
      if (before?.[1] === point - 1) before[1] = point;
      else found.push([point, point]);
    }
  }
  return union(found);
}
