/**
 * From shapes to the grammar library's EBNF. Characters are counted by right-linear rules, because
 * with the library's own repetitions of characters masks take seconds (with those of items they do
 * not). Rules with the same text are one rule, so that what schemas have in common costs once.
 */
import { anythingBut, type Automaton, type Edge, stateOf } from "./automata/automaton.ts";
import { longest } from "./schema/check_shapes.ts";
import { numberAutomaton } from "./schema/numbers.ts";
import { BLANK, JSON_MEMBERS, KEYWORDS, Members, type MemberStyle } from "./members.ts";
import { refuse } from "./schema/schema_error.ts";
import {
  ANY,
  type ArrayShape,
  NEVER,
  type ObjectShape,
  type Shape,
  type Shapes,
  targetOf,
} from "./schema/shape.ts";
import { inString, jsonLiteral, plain } from "./spelling.ts";

const HEX = "[0-9a-fA-F]";
/** Most rules of one grammar. */
const MOST_RULES = 20_000;
/** Most rules that allow most characters: for each, the library tries all tokens (about 40 ms). */
const MOST_WIDE_RULES = 512;
/** Most characters of a grammar's text. */
const LONGEST_GRAMMAR = 2_000_000;
const WIDE = 1000;
/** So many rules that allow few characters weigh as much as one that allows most. */
const RULES_OF_A_MASK = 16;
/**
 * Weight of a place where blanks may stand: each blank is a state, 0.7 to 1.1 MB in all with 49,152
 * tokens.
 */
const MASKS_OF_A_BLANK = 4;

/** A grammar in the library's EBNF. */
export interface WrittenGrammar {
  /** EBNF; its rule `root` is the whole. */
  readonly text: string;
  /**
   * Estimated memory once compiled, in masks of most tokens (about 0.23 MB each with 49,152
   * tokens).
   */
  readonly weight: number;
}

/** How a grammar's rules are named and its words written. */
export interface Writing {
  /** Before each rule's name, so that grammars can stand in one text; the whole is `PREFIXroot`. */
  readonly prefix: string;
  /** Python's words for true, false and null, and the members of the root as keywords. */
  readonly language: "json" | "python";
}

const WORDS = {
  json: { true: "true", false: "false", null: "null" },
  python: { true: "True", false: "False", null: "None" },
} as const;

/**
 * A grammar whose rule `root` allows exactly the shapes' values, as JSON text.
 * @throws {SchemaError} where it would take too long to compile.
 */
export function writeGrammar(
  shapes: Shapes,
  possible: (shape: Shape) => boolean,
  writing: Writing = { prefix: "", language: "json" },
): WrittenGrammar {
  return new GrammarWriter(shapes, possible, writing).write();
}

/**
 * A grammar of the texts that an automaton accepts, as they are.
 * @throws {SchemaError} where it would take too long to compile.
 */
export function writeText(texts: Automaton): WrittenGrammar {
  const shapes: Shapes = { root: NEVER, references: new Map() };
  return new GrammarWriter(shapes, () => false, { prefix: "", language: "json" }).writeText(texts);
}

class GrammarWriter {
  readonly #shapes: Shapes;
  readonly #possible: (shape: Shape) => boolean;
  readonly #writing: Writing;
  readonly #rules: string[] = [];
  /** Names of rules by their text. */
  readonly #named = new Map<string, string>();
  readonly #references = new Map<string, string>();
  #names = 0;
  #wide = 0;
  #length = 0;

  constructor(shapes: Shapes, possible: (shape: Shape) => boolean, writing: Writing) {
    this.#shapes = shapes;
    this.#possible = possible;
    this.#writing = writing;
  }

  write(): WrittenGrammar {
    const { prefix, language } = this.#writing;
    const { root } = this.#shapes;
    this.#define(`${prefix}root`, language === "json" ? this.#value(root) : this.#keywords(root));
    return this.#whole();
  }

  writeText(texts: Automaton): WrittenGrammar {
    this.#define("root", this.#automaton(texts, plain, ""));
    return this.#whole();
  }

  #whole(): WrittenGrammar {
    const text = this.#rules.join("");
    const blanks = text.split(BLANK).length - 1;
    const few = Math.ceil(this.#rules.length / RULES_OF_A_MASK);
    return { text, weight: 1 + this.#wide + few + MASKS_OF_A_BLANK * blanks };
  }

  /** The name of the rule with this text, which is made if there is none. */
  #rule(text: string): string {
    const known = this.#named.get(text);
    if (known !== undefined) return known;
    const name = this.#newName();
    this.#named.set(text, name);
    this.#define(name, text);
    return name;
  }

  #newName(): string {
    return `${this.#writing.prefix}r${this.#names++}`;
  }

  #define(name: string, text: string): void {
    const rule = `${name} ::= ${text}\n`;
    this.#length += rule.length;
    if (this.#rules.push(rule) > MOST_RULES || this.#length > LONGEST_GRAMMAR) {
      refuse("#", "is too large for a grammar: its counts, patterns and properties add up");
    }
  }

  /** A rule that may refer to itself. */
  #recursive(text: (name: string) => string): string {
    const name = this.#newName();
    this.#define(name, text(name));
    return name;
  }

  get #words(): Readonly<Record<"true" | "false" | "null", string>> {
    return WORDS[this.#writing.language];
  }

  /** An expression for a shape's values. */
  #value(shape: Shape): string {
    switch (shape.kind) {
      case "any":
        return this.#any();
      case "never":
        throw new RangeError("internal: a grammar of nothing");
      case "boolean":
        return `("${this.#words.true}" | "${this.#words.false}")`;
      case "null":
        return `"${this.#words.null}"`;
      case "values":
        return this.#rule(
          [...new Set(shape.values.map((value) => this.#constant(value)))].join(" | "),
        );
      case "string":
        return this.#string(shape.strings);
      case "number":
        return this.#automaton(shape.spellings, plain, "");
      case "array":
        return this.#array(shape);
      case "object":
        return this.#object(shape);
      case "union":
        return this.#rule(
          shape.options.filter(this.#possible).map((each) => this.#value(each)).join(" | "),
        );
      case "reference":
        return this.#reference(shape.target);
    }
  }

  #reference(target: string): string {
    const known = this.#references.get(target);
    if (known !== undefined) return known;
    return this.#recursive((name) => {
      this.#references.set(target, name);
      return this.#value(targetOf(this.#shapes.references, target));
    });
  }

  #any(): string {
    const known = this.#references.get("any");
    if (known !== undefined) return known;
    return this.#recursive((name) => {
      this.#references.set("any", name);
      const array: Shape = {
        kind: "array",
        typed: "said",
        prefix: [],
        rest: ANY,
        least: 0,
        most: Infinity,
      };
      const object: Shape = {
        kind: "object",
        typed: "said",
        properties: [],
        extra: ANY,
        closed: "said",
        least: 0,
        most: Infinity,
      };
      const number = numberAutomaton({ type: "number", bounds: [], multipleOf: undefined });
      return [
        this.#string(undefined),
        this.#automaton(number, plain, ""),
        Object.values(this.#words).map((word) => `"${word}"`).join(" | "),
        this.#array(array),
        this.#object(object),
      ].join(" | ");
    });
  }

  #constant(value: unknown): string {
    if (Array.isArray(value)) {
      return this.#list(
        "[",
        value.map((each) => this.#constant(each)),
        "]",
      );
    }
    if (value === null || typeof value === "boolean") return `"${this.#words[`${value}`]}"`;
    if (typeof value !== "object") return jsonLiteral(value);
    const members = Object.entries(value).map(([key, each]) =>
      `${jsonLiteral(key)} ${BLANK} ":" ${BLANK} ${this.#constant(each)}`
    );
    return this.#list("{", members, "}");
  }

  #list(open: string, members: readonly string[], close: string): string {
    const inner = members.length === 0
      ? ""
      : `${members.join(` ${BLANK} "," ${BLANK} `)} ${BLANK} `;
    return this.#rule(`"${open}" ${BLANK} ${inner}"${close}"`);
  }

  // ---- strings and numbers ----

  #string(strings: Automaton | undefined): string {
    if (strings !== undefined) {
      return this.#rule(`"\\"" ${this.#automaton(strings, inString, '"\\""')}`);
    }
    const known = this.#references.get("string");
    if (known !== undefined) return known;
    const name = this.#newName();
    this.#references.set("string", name);
    const bare = inString([[0x20, 0xD7FF], [0xE000, 0x10FFFF]]).slice(0, -2);
    const rest = this.#recursive((own) =>
      [
        '"\\""',
        ...bare.map((each) => `${each} ${own}`),
        `"\\\\" ["\\\\/bfnrt] ${own}`,
        `"\\\\u" ${HEX} ${HEX} ${HEX} ${HEX} ${own}`,
      ].join(" | ")
    );
    this.#define(name, `"\\"" ${rest}`);
    return name;
  }

  /**
   * An automaton's rules, with `end` where it accepts. A state that leads back to itself has a name
   * of its own; all others are named by their text, so that automata share common ends.
   */
  #automaton(
    automaton: Automaton,
    spell: (ranges: readonly (readonly [number, number])[]) => readonly string[],
    end: string,
  ): string {
    const names = new Map<number, string>();
    const open = new Set<number>();
    const visit = (index: number): string => {
      const known = names.get(index);
      if (known !== undefined) return known;
      if (open.has(index)) {
        const name = this.#newName();
        names.set(index, name);
        return name;
      }
      open.add(index);
      const { accepts, edges } = stateOf(automaton, index);
      const targets = new Map<number, Edge[]>();
      for (const edge of edges) targets.set(edge.to, [...targets.get(edge.to) ?? [], edge]);
      const ways = [...targets].flatMap(([to, own]) => {
        const next = visit(to);
        return spell(own.map(({ first, last }) => [first, last])).map((each) => `${each} ${next}`);
      });
      const text = [...(accepts ? [end || '""'] : []), ...ways].join(" | ");
      this.#countWide(edges);
      const cyclic = names.get(index);
      if (cyclic !== undefined) this.#define(cyclic, text);
      else names.set(index, this.#rule(text));
      return names.get(index) ?? "";
    };
    return visit(0);
  }

  #countWide(edges: readonly Edge[]): void {
    if (edges.reduce((sum, { first, last }) => sum + last - first + 1, 0) < WIDE) return;
    this.#wide++;
    if (this.#wide <= MOST_WIDE_RULES) return;
    refuse(
      "#",
      `counts characters to more than ${MOST_WIDE_RULES} in all: ask for shorter strings`,
    );
  }

  // ---- arrays and objects ----

  #array(shape: ArrayShape): string {
    const { prefix, rest, least } = shape;
    const most = longest(shape, this.#possible);
    const item = (index: number) => this.#value(prefix[index] ?? rest);
    const close = '"]"';
    if (most === 0) return this.#rule(`"[" ${BLANK} ${close}`);
    const named = Math.min(Math.max(prefix.length, 1), most);
    const more = most === named
      ? ""
      : `( ${BLANK} "," ${BLANK} ${item(named)} )${repetitions(least - named, most - named)} `;
    let tail = this.#rule(`${more}${BLANK} ${close}`);
    for (let count = named - 1; count >= 1; count--) {
      const next = `"," ${BLANK} ${item(count)} ${tail}`;
      tail = this.#rule(`${BLANK} ( ${count >= least ? `${close} | ` : ""}${next} )`);
    }
    const first = `${item(0)} ${tail}`;
    return this.#rule(`"[" ${BLANK} ( ${least === 0 ? `${close} | ` : ""}${first} )`);
  }

  #object(shape: ObjectShape): string {
    return this.#rule(`"{" ${BLANK} ${this.#members(shape, JSON_MEMBERS)}`);
  }

  #members(shape: ObjectShape, style: MemberStyle): string {
    const rules = {
      rule: (text: string) => this.#rule(text),
      recursive: (text: (name: string) => string) => this.#recursive(text),
      value: (each: Shape) => this.#value(each),
      key: (names: readonly string[]) =>
        this.#string(names.length === 0 ? undefined : anythingBut(names)),
    };
    return new Members(shape, this.#possible, rules, style).write();
  }

  /** The members of the root as Python's keywords, and the bracket that closes them. */
  #keywords(shape: Shape): string {
    if (shape.kind !== "object") {
      refuse("#", "must be an object's with its properties, so that they can be keywords");
    }
    for (const { name } of shape.properties) {
      if (!/^[A-Za-z_]\w*$/.test(name)) {
        refuse(`#/properties/${name}`, "cannot be a keyword: a name of letters, digits and _ can");
      }
    }
    return this.#members({ ...shape, extra: NEVER }, KEYWORDS);
  }
}

function repetitions(least: number, most: number): string {
  return `{${Math.max(0, least)},${most === Infinity ? "" : most}}`;
}
