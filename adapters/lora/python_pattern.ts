/**
 * Python's regular expressions for whole names (`re.fullmatch`), which PEFT's configs have: as a
 * program whose every step is tried once at every place (Cox, "Regular Expression Matching: the
 * Virtual Machine Approach"), so that no pattern from outside can run away. Back-references,
 * look-behinds and flags are refused by name.
 */

/** Most steps of a pattern; repetitions multiply them. */
const MOST_STEPS = 2000;
/** Deepest nesting of groups. */
const DEEPEST_GROUP = 64;
/** Empty braces are characters. */
const QUANTIFIER = /^(?:([*+?])|\{(?!\})(\d{0,6})(,)?(\d{0,6})\})\??/;

type Step =
  | { readonly type: "character"; readonly fits: (character: string) => boolean }
  /** Goes on at all of these. */
  | { readonly type: "ways"; readonly to: readonly number[] }
  | { readonly type: "place"; readonly fits: (text: string, at: number) => boolean }
  /** Whether what begins here fits the steps behind this one, which end with a "match". */
  | { readonly type: "look"; readonly wanted: boolean; readonly to: number }
  | { readonly type: "match" };

/** What is put behind the steps that are there. */
type Piece = () => void;

/** A pattern that whole texts are held against. */
export class PythonPattern {
  readonly #steps: readonly Step[];

  /** @throws {TypeError} saying what in it is wrong, or not supported */
  constructor(source: string) {
    this.#steps = new PatternReader(source).read();
  }

  /** `re.fullmatch(pattern, text) is not None`. */
  matches(text: string): boolean {
    return this.#runs(text, 0, 0, (at) => at === text.length);
  }

  #runs(text: string, from: number, start: number, ends: (at: number) => boolean): boolean {
    const seen = new Set<number>();
    const stack: [step: number, at: number][] = [[from, start]];
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      const [number, at] = next;
      const key = number * (text.length + 1) + at;
      if (seen.has(key)) continue;
      seen.add(key);
      const step = this.#steps[number];
      if (step === undefined) throw new Error("internal: a pattern's step leads nowhere");
      switch (step.type) {
        case "match":
          if (ends(at)) return true;
          break;
        case "ways":
          stack.push(...step.to.map((to): [number, number] => [to, at]));
          break;
        case "character":
          if (at < text.length && step.fits(text.charAt(at))) stack.push([number + 1, at + 1]);
          break;
        case "place":
          if (step.fits(text, at)) stack.push([number + 1, at]);
          break;
        case "look":
          if (this.#runs(text, number + 1, at, () => true) === step.wanted) {
            stack.push([step.to, at]);
          }
      }
    }
    return false;
  }
}

const isWord = (character: string | undefined) => /^\w$/.test(character ?? "");
const atBoundary = (text: string, at: number) => isWord(text[at - 1]) !== isWord(text[at]);

const PLACES: ReadonlyMap<string, (text: string, at: number) => boolean> = new Map([
  ["^", (_, at) => at === 0],
  ["\\A", (_, at) => at === 0],
  ["$", (text, at) => at === text.length],
  ["\\Z", (text, at) => at === text.length],
  ["\\b", atBoundary],
  ["\\B", (text, at) => !atBoundary(text, at)],
]);

class PatternReader {
  readonly #text: string;
  readonly #steps: Step[] = [];
  #at = 0;
  #depth = 0;
  #repeats = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(): readonly Step[] {
    const whole = this.#choice();
    if (this.#at < this.#text.length) this.#refuse("a ')' that closes nothing");
    whole();
    this.#add({ type: "match" });
    return this.#steps;
  }

  #choice(): Piece {
    const pieces = [this.#sequence()];
    while (this.#takes(/^\|/)) pieces.push(this.#sequence());
    const [only] = pieces;
    if (only !== undefined && pieces.length === 1) return only;
    return () => {
      const fork = this.#later();
      const starts: number[] = [];
      const ends = pieces.map((piece) => {
        starts.push(this.#steps.length);
        piece();
        return this.#later();
      });
      this.#steps[fork] = { type: "ways", to: starts };
      for (const end of ends) this.#steps[end] = { type: "ways", to: [this.#steps.length] };
    };
  }

  #sequence(): Piece {
    const pieces: Piece[] = [];
    while (this.#at < this.#text.length && !/^[|)]/.test(this.#rest)) {
      pieces.push(this.#quantified(this.#piece()));
    }
    return () => pieces.forEach((piece) => piece());
  }

  #quantified(piece: Piece): Piece {
    const found = QUANTIFIER.exec(this.#rest);
    if (found === null) return piece;
    this.#at += found[0].length;
    if (QUANTIFIER.test(this.#rest) || this.#rest.startsWith("+")) {
      this.#refuse("a repetition of a repetition");
    }
    const [, sign, count = "", comma, limit = ""] = found;
    if (sign === "*") return () => this.#loop(piece, 0);
    if (sign === "+") return () => this.#loop(piece, 1);
    const least = sign === "?" ? 0 : Number(count);
    if (comma !== undefined && limit === "") return () => this.#loop(piece, least);
    const most = sign === "?" ? 1 : comma === undefined ? least : Number(limit);
    if (most < least) this.#refuse(`a repetition from ${least} to ${most}`);
    return () => this.#times(piece, least, most);
  }

  #loop(piece: Piece, least: number): void {
    for (let i = 0; i < least; i++) this.#again(piece);
    const fork = this.#later();
    piece();
    this.#add({ type: "ways", to: [fork] });
    this.#steps[fork] = { type: "ways", to: [fork + 1, this.#steps.length] };
  }

  #times(piece: Piece, least: number, most: number): void {
    const forks: number[] = [];
    for (let i = 0; i < most; i++) {
      if (i >= least) forks.push(this.#later());
      this.#again(piece);
    }
    for (const fork of forks) {
      this.#steps[fork] = { type: "ways", to: [fork + 1, this.#steps.length] };
    }
  }

  /** Counted, as empty pieces add no step. */
  #again(piece: Piece): void {
    if (++this.#repeats > MOST_STEPS) this.#refuse(`more than ${MOST_STEPS} repetitions`);
    piece();
  }

  #piece(): Piece {
    const place = this.#takes(/^(?:[\^$]|\\[AZbB])/);
    const fits = place && PLACES.get(place);
    if (fits) return () => this.#add({ type: "place", fits });
    if (this.#takes(/^\(/)) return this.#group();
    if (this.#takes(/^\./)) return this.#character((character) => character !== "\n");
    const text = this.#takes(/^(?:\[\^?\]?(?:\\.|[^\]\\])*\]|\\.|[^*+?[\\])/s);
    if (text === undefined) this.#refuse(`${JSON.stringify(this.#rest.charAt(0))} out of place`);
    return this.#character(this.#setOf(text));
  }

  /** One character, an escape or a set of them: JavaScript's meaning is Python's there. */
  #setOf(text: string): (character: string) => boolean {
    if (text.length === 1) return (character) => character === text;
    const [odd] = /\\(?![dDwWsStnrfvb])\w/.exec(text) ?? [];
    if (odd !== undefined) this.#refuse(`the escape ${odd}, which is not supported`);
    // a bracket that comes first is itself, and the other one needs a backslash in JavaScript
    const set = text.startsWith("[")
      ? `[${text.slice(1, -1).replace(/^(\^?)\]/, "$1\\]").replaceAll(/(?<!\\)\[/g, "\\[")}]`
      : text;
    try {
      const one = new RegExp(`^${set}$`);
      return (character) => one.test(character);
    } catch {
      this.#refuse(`the set ${text}`);
    }
  }

  #group(): Piece {
    const look = this.#takes(/^\?[=!]/);
    if (look === undefined && this.#takes(/^\?(?::|P<\w+>)/) === undefined) {
      const kind = /^\?(?:<[=!]|P=|.)?/s.exec(this.#rest);
      if (kind !== null) this.#refuse(`a group '(${kind[0]}', which is not supported`);
    }
    if (++this.#depth > DEEPEST_GROUP) this.#refuse(`more than ${DEEPEST_GROUP} nested groups`);
    const inside = this.#choice();
    this.#depth--;
    if (this.#takes(/^\)/) === undefined) this.#refuse("a '(' that is not closed");
    if (look === undefined) return inside;
    return () => {
      const step = this.#later();
      inside();
      this.#add({ type: "match" });
      this.#steps[step] = { type: "look", wanted: look === "?=", to: this.#steps.length };
    };
  }

  #character(fits: (character: string) => boolean): Piece {
    return () => this.#add({ type: "character", fits });
  }

  /** The number of a step that is known later. */
  #later(): number {
    this.#add({ type: "ways", to: [] });
    return this.#steps.length - 1;
  }

  #add(step: Step): void {
    if (this.#steps.length >= MOST_STEPS) this.#refuse(`more than ${MOST_STEPS} steps`);
    this.#steps.push(step);
  }

  get #rest(): string {
    return this.#text.slice(this.#at);
  }

  #takes(what: RegExp): string | undefined {
    const [found] = what.exec(this.#rest) ?? [];
    this.#at += found?.length ?? 0;
    return found;
  }

  #refuse(what: string): never {
    throw new TypeError(`the pattern ${JSON.stringify(this.#text.slice(0, 200))} has ${what}`);
  }
}
