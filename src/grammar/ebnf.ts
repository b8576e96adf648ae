/**
 * A request's own grammar: GBNF, which llama.cpp reads and vLLM's users write, checked and written anew
 * for the grammar library. The trap: the library aborts on what it cannot read, may not end where a
 * repetition takes nothing or a rule begins with itself, and reads some sets of characters wrongly;
 * so what it gets is this file's own spelling, without repetitions of its kind.
 */
import { CHARACTERS, except, type Range, union } from "./automata/automaton.ts";
import { literal, plain } from "./spelling.ts";
import type { WrittenGrammar } from "./write_grammar.ts";

/** Most rules once repetitions are written out. */
const MOST_RULES = 4096;
/** Most characters that a set allows before it counts as wide, and most wide places. */
const WIDE = 1000;
const MOST_WIDE = 512;
/** Most characters of what is written. */
const LONGEST = 2_000_000;
/** Deepest nesting of groups. */
const DEEPEST = 64;

type Node =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "set"; readonly ranges: readonly Range[] }
  | { readonly type: "rule"; readonly name: string }
  | { readonly type: "sequence"; readonly parts: readonly Node[] }
  | { readonly type: "choice"; readonly options: readonly Node[] }
  | { readonly type: "repeat"; readonly of: Node; readonly least: number; readonly most: number };

type Rules = ReadonlyMap<string, Node>;

/**
 * The grammar whose rule `root` allows what the request's does.
 * @throws {TypeError} saying what in it is wrong or cannot be held, and on which line
 */
export function compileEbnf(text: string): WrittenGrammar {
  const rules = new Reader(text).read();
  check(rules);
  return new Writer(rules).write();
}

// ---- reading ----

const NAME = /[A-Za-z_][\w-]*/y;
const SPACE = /(?:\s|#[^\n]*)*/y;
const REPETITION = /\{\s*(\d{1,5})\s*(?:(,)\s*(\d{1,5})?\s*)?\}/y;
const CONTROLS: ReadonlyMap<string, string> = new Map([["n", "\n"], ["r", "\r"], ["t", "\t"]]);
const HEX_DIGITS: ReadonlyMap<string, number> = new Map([["x", 2], ["u", 4], ["U", 8]]);

class Reader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(): Rules {
    const rules = new Map<string, Node>();
    for (this.#skip(); this.#at < this.#text.length; this.#skip()) {
      const name = this.#match(NAME)?.[0];
      this.#skip();
      if (name === undefined || !this.#takes("::=")) this.#fail("a rule is written name ::= …");
      if (rules.has(name)) this.#fail(`rule '${name}' is there already`);
      rules.set(name, this.#choice());
      if (rules.size > MOST_RULES) this.#fail(`more than ${MOST_RULES} rules`);
    }
    return rules;
  }

  #choice(): Node {
    const options = [this.#sequence()];
    while (this.#takes("|")) options.push(this.#sequence());
    return options.length === 1 && options[0] ? options[0] : { type: "choice", options };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    for (this.#skip(); !this.#ends(); this.#skip()) parts.push(this.#repeated(this.#one()));
    return parts.length === 1 && parts[0] ? parts[0] : { type: "sequence", parts };
  }

  /** At `|`, `)`, the end, or another rule's begin. */
  #ends(): boolean {
    const next = this.#text[this.#at];
    if (next === undefined || next === "|" || next === ")") return true;
    return /^[A-Za-z_][\w-]*(?:\s|#[^\n]*)*::=/.test(this.#text.slice(this.#at, this.#at + 256));
  }

  #one(): Node {
    if (this.#takes('"')) return { type: "text", text: this.#literal() };
    if (this.#takes("[")) return { type: "set", ranges: this.#set() };
    if (this.#takes(".")) return { type: "set", ranges: CHARACTERS };
    if (this.#takes("(")) {
      if (++this.#depth > DEEPEST) this.#fail(`groups are nested deeper than ${DEEPEST}`);
      const inner = this.#choice();
      if (!this.#takes(")")) this.#fail("a ')' is missing");
      this.#depth--;
      return inner;
    }
    const name = this.#match(NAME)?.[0];
    if (name === undefined) this.#fail(`'${this.#text[this.#at]}' cannot stand here`);
    return { type: "rule", name };
  }

  #repeated(of: Node): Node {
    this.#skip();
    if (this.#takes("*")) return { type: "repeat", of, least: 0, most: Infinity };
    if (this.#takes("+")) return { type: "repeat", of, least: 1, most: Infinity };
    if (this.#takes("?")) return { type: "repeat", of, least: 0, most: 1 };
    if (this.#text[this.#at] !== "{") return of;
    const [, low, comma, high] = this.#match(REPETITION) ??
      this.#fail("a repetition is {n}, {n,} or {n,m}");
    const least = Number(low);
    const most = comma === undefined ? least : high === undefined ? Infinity : Number(high);
    if (most < least) this.#fail(`{${least},${most}} is no range`);
    return { type: "repeat", of, least, most };
  }

  #literal(): string {
    let text = "";
    while (!this.#takes('"')) text += this.#character();
    return text;
  }

  #set(): readonly Range[] {
    const negated = this.#takes("^");
    const ranges: Range[] = [];
    while (!this.#takes("]")) {
      const first = this.#point();
      const isRange = this.#text[this.#at] === "-" && this.#text[this.#at + 1] !== "]";
      if (isRange) this.#at++;
      const last = isRange ? this.#point() : first;
      if (last < first) this.#fail("a range of characters ends before it begins");
      ranges.push([first, last]);
    }
    const held = negated ? except(CHARACTERS, ranges) : union(ranges);
    if (held.length === 0) this.#fail("a set of characters is empty");
    return held;
  }

  #point(): number {
    return this.#character().codePointAt(0) ?? 0;
  }

  #character(): string {
    const point = this.#text.codePointAt(this.#at);
    if (point === undefined) this.#fail("it ends inside of quotes or brackets");
    const character = String.fromCodePoint(point);
    this.#at += character.length;
    if (character !== "\\") return character;
    const escaped = this.#text[this.#at++] ?? "";
    const digits = HEX_DIGITS.get(escaped);
    if (digits === undefined) return CONTROLS.get(escaped) ?? escaped;
    const hex = this.#text.slice(this.#at, this.#at + digits);
    const value = Number.parseInt(hex, 16);
    const whole = /^[\da-f]+$/i.test(hex) && hex.length === digits;
    if (!whole || value > 0x10FFFF || value >= 0xD800 && value <= 0xDFFF) {
      this.#fail(`'\\${escaped}${hex}' is no character`);
    }
    this.#at += digits;
    return String.fromCodePoint(value);
  }

  #skip(): void {
    this.#match(SPACE);
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    const sticky = new RegExp(pattern);
    sticky.lastIndex = this.#at;
    const found = sticky.exec(this.#text) ?? undefined;
    if (found !== undefined) this.#at = sticky.lastIndex;
    return found;
  }

  #takes(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #fail(what: string): never {
    const line = this.#text.slice(0, this.#at).split("\n").length;
    throw new TypeError(`line ${line}: ${what}`);
  }
}

// ---- checks ----

/** @throws {TypeError} for what has no meaning, or may not end */
function check(rules: Rules): void {
  if (!rules.has("root")) {
    throw new TypeError("it has no rule 'root', where text begins (root ::= …)");
  }
  const empty = emptyRules(rules);
  for (const [name, node] of rules) {
    walk(node, (inner) => {
      if (inner.type === "rule" && !rules.has(inner.name)) {
        throw new TypeError(`rule '${name}' names '${inner.name}', which is no rule`);
      }
      if (inner.type === "repeat" && inner.most > 1 && mayBeEmpty(inner.of, empty)) {
        throw new TypeError(`rule '${name}' repeats what may be empty, which need not end`);
      }
    });
  }
  for (const name of rules.keys()) {
    if (beginsWith(name, rules, empty).has(name)) {
      throw new TypeError(
        `rule '${name}' begins with itself: write it so that it ends with itself`,
      );
    }
  }
}

function walk(node: Node, visit: (node: Node) => void): void {
  visit(node);
  if (node.type === "repeat") walk(node.of, visit);
  if (node.type === "sequence") { for (const part of node.parts) walk(part, visit); }
  if (node.type === "choice") { for (const option of node.options) walk(option, visit); }
}

/** Rules that may take nothing. */
function emptyRules(rules: Rules): ReadonlySet<string> {
  const empty = new Set<string>();
  for (let before = -1; before !== empty.size;) {
    before = empty.size;
    for (const [name, node] of rules) if (mayBeEmpty(node, empty)) empty.add(name);
  }
  return empty;
}

function mayBeEmpty(node: Node, empty: ReadonlySet<string>): boolean {
  switch (node.type) {
    case "text":
      return node.text === "";
    case "set":
      return false;
    case "rule":
      return empty.has(node.name);
    case "sequence":
      return node.parts.every((part) => mayBeEmpty(part, empty));
    case "choice":
      return node.options.some((option) => mayBeEmpty(option, empty));
    case "repeat":
      return node.least === 0 || mayBeEmpty(node.of, empty);
  }
}

/** Rules that may stand at the very begin of a rule. */
function beginsWith(name: string, rules: Rules, empty: ReadonlySet<string>): ReadonlySet<string> {
  const found = new Set<string>();
  const open = [rules.get(name)];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (node.type === "rule" && !found.has(node.name)) {
      found.add(node.name);
      const next = rules.get(node.name);
      if (next !== undefined) open.push(next);
    }
    if (node.type === "repeat") open.push(node.of);
    if (node.type === "choice") open.push(...node.options);
    if (node.type !== "sequence") continue;
    for (const part of node.parts) {
      open.push(part);
      if (!mayBeEmpty(part, empty)) break;
    }
  }
  return found;
}

// ---- writing ----

class Writer {
  readonly #rules: Rules;
  readonly #names: ReadonlyMap<string, string>;
  readonly #written: string[] = [];
  #made = 0;
  #wide = 0;
  #length = 0;

  constructor(rules: Rules) {
    this.#rules = rules;
    const numbered = [...rules.keys()].map((name, index) => [name, `g${index}`] as const);
    this.#names = new Map([...numbered, ["root", "root"]]);
  }

  write(): WrittenGrammar {
    for (const [name, node] of this.#rules) {
      this.#define(this.#names.get(name) ?? name, this.#spell(node));
    }
    return { text: this.#written.join(""), weight: 1 + this.#wide + Math.ceil(this.#made / 16) };
  }

  #define(name: string, text: string): string {
    this.#length += text.length;
    if (++this.#made > MOST_RULES || this.#wide > MOST_WIDE || this.#length > LONGEST) {
      throw new TypeError("it is too large: its rules and repetitions add up");
    }
    this.#written.push(`${name} ::= ${text}\n`);
    return name;
  }

  #spell(node: Node): string {
    switch (node.type) {
      case "text":
        return literal(node.text);
      case "set":
        return this.#set(node.ranges);
      case "rule":
        return this.#names.get(node.name) ?? "";
      case "sequence":
        return node.parts.length === 0
          ? '""'
          : node.parts.map((part) => this.#spell(part)).join(" ");
      case "choice":
        return `( ${node.options.map((option) => this.#spell(option)).join(" | ")} )`;
      case "repeat":
        return this.#repeat(node.least, node.most, node.of);
    }
  }

  #set(ranges: readonly Range[]): string {
    if (ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0) >= WIDE) this.#wide++;
    return `( ${plain(ranges).join(" | ")} )`;
  }

  /** As many rules, each the text once and the rest. */
  #repeat(least: number, most: number, of: Node): string {
    const endless = most === Infinity;
    let rest = '""';
    if (endless) {
      const own = `n${this.#made}`;
      rest = this.#define(own, `"" | ${this.#spell(of)} ${own}`);
    }
    for (let count = endless ? least : most; count > 0; count--) {
      const name = `n${this.#made}`;
      const once = `${this.#spell(of)} ${rest}`;
      rest = this.#define(name, count > least ? `"" | ${once}` : once);
    }
    return rest;
  }
}
