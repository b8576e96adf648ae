/** The members of an object (all between its braces) as rules of the grammar. */
import { NEVER, type ObjectShape, type Shape } from "./schema/shape.ts";
import { jsonLiteral, literal } from "./spelling.ts";

/**
 * Blanks between members: enough for indentation, but not for the endless blanks of small models.
 * More take long to compile.
 */
export const BLANK = "[ \\n\\t]{0,8}";

/** What an object's members are written with. */
export interface Rules {
  rule(text: string): string;
  recursive(text: (name: string) => string): string;
  value(shape: Shape): string;
  /** A rule for any key but these. */
  key(names: readonly string[]): string;
}

/** How members are written; all but `key` in EBNF. */
export interface MemberStyle {
  readonly key: (name: string) => string;
  /** Between key and value. */
  readonly colon: string;
  readonly comma: string;
  readonly close: string;
}

export const JSON_MEMBERS: MemberStyle = {
  key: jsonLiteral,
  colon: `${BLANK} ":" ${BLANK}`,
  comma: `${BLANK} "," ${BLANK}`,
  close: '"}"',
};

/** Python's keywords of a call, as models write them. */
export const KEYWORDS: MemberStyle = {
  key: literal,
  colon: '"="',
  comma: '", "',
  close: '")"',
};

/** An object's members in the order of its properties, then the others, counted where asked. */
export class Members {
  readonly #shape: ObjectShape;
  readonly #rules: Rules;
  readonly #style: MemberStyle;
  /**
   * Rules by how many properties have been passed and how many members written; undefined where no
   * end can be reached.
   */
  readonly #known = new Map<string, string | undefined>();
  /** Members are counted up to here; beyond, their number does not matter. */
  readonly #counts: number;

  constructor(
    shape: ObjectShape,
    possible: (shape: Shape) => boolean,
    rules: Rules,
    style: MemberStyle,
  ) {
    this.#rules = rules;
    this.#style = style;
    this.#shape = {
      ...shape,
      properties: shape.properties.filter((each) => possible(each.shape)),
      extra: possible(shape.extra) ? shape.extra : NEVER,
    };
    this.#counts = Math.max(shape.least, shape.most === Infinity ? 1 : shape.most);
  }

  write(): string {
    // from the last property on, so that a long row of them is not a deep recursion
    for (let index = this.#shape.properties.length; index >= 0; index--) {
      for (let count = Math.min(index, this.#counts); count > 0; count--) this.#after(index, count);
    }
    const all = this.#after(0, 0);
    if (all === undefined) throw new RangeError("internal: an object's members come to no end");
    return all;
  }

  /** What may follow `count` members, once the properties before `index` have been passed. */
  #after(index: number, count: number): string | undefined {
    const key = `${index}/${count}`;
    if (this.#known.has(key)) return this.#known.get(key);
    const property = this.#shape.properties[index];
    const name = property === undefined ? this.#others(count) : this.#either([
      this.#member(
        count,
        this.#style.key(property.name),
        property.shape,
        (next) => this.#after(index + 1, next),
      ),
      property.required ? undefined : this.#after(index + 1, count),
    ]);
    this.#known.set(key, name);
    return name;
  }

  #either(ways: readonly (string | undefined)[]): string | undefined {
    const open = ways.filter((way) => way !== undefined);
    return open.length === 0 ? undefined : this.#rules.rule(open.join(" | "));
  }

  /** One more member, if there may be one. */
  #member(
    count: number,
    key: string,
    shape: Shape,
    after: (count: number) => string | undefined,
  ): string | undefined {
    if (count >= this.#shape.most) return undefined;
    const next = after(Math.min(count + 1, this.#counts));
    if (next === undefined) return undefined;
    const { comma, colon } = this.#style;
    return `${count === 0 ? "" : `${comma} `}${key} ${colon} ${this.#rules.value(shape)} ${next}`;
  }

  #others(count: number): string | undefined {
    const { extra, least, most, properties } = this.#shape;
    const { close } = this.#style;
    const end = count < least ? undefined : count === 0 ? close : `${BLANK} ${close}`;
    if (extra === NEVER) return this.#either([end]);
    const key = this.#rules.key(properties.map(({ name }) => name));
    if (most === Infinity && count === this.#counts) {
      return this.#rules.recursive((own) =>
        [end, this.#member(count, key, extra, () => own)].join(" | ")
      );
    }
    const after = (next: number) => this.#after(properties.length, next);
    return this.#either([end, this.#member(count, key, extra, after)]);
  }
}
