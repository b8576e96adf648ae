/** Random walks through random schemas' grammars: whatever the masks allow is valid. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { assert } from "@std/assert";
import { SchemaError } from "../../src/grammar/schema/schema_error.ts";
import { uniformAt } from "../../src/executor/philox.ts";
import { EOS } from "../fakes/tokenizer.ts";
import { byteMatcher, type Choose } from "./byte_matcher.ts";
import { LONG } from "../long.ts";

type Schema = Record<string, unknown>;

const DEEPEST = 3;
const CLOSING = [...'"]}'].map((character) => character.charCodeAt(0));
const BLANKS = [..." \n\t"].map((character) => character.charCodeAt(0));
const PATTERNS = [
  "^[à-ü]{1,3}$",
  "x",
  "^a|b$",
  "^\\p{Lu}",
  "[^\\w]$",
  '^(?:ab|"\\\\){2}',
  "\\d{3}-",
];
const VALUES = [1, 'a"', null, { x: [1] }, [true], "é"];

/** Draws by a seed, each time another number. */
class Draws {
  #position = 0;
  constructor(readonly seed: number) {}

  chance(probability: number): boolean {
    return this.#next() < probability;
  }

  below(count: number): number {
    return Math.floor(this.#next() * count);
  }

  of<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError("internal: nothing to draw from");
    return item;
  }

  #next(): number {
    return uniformAt(this.seed, 0, this.#position++);
  }
}

function randomSchema(draws: Draws, depth: number): Schema {
  const simple = [string, number, () => ({ enum: VALUES.slice(0, 1 + draws.below(6)) })];
  const nested = [array, object, object, union];
  return draws.of(depth === DEEPEST ? simple : [...simple, ...nested])(draws, depth + 1);
}

function string(draws: Draws): Schema {
  return {
    type: "string",
    ...(draws.chance(0.5) && { pattern: draws.of(PATTERNS) }),
    ...(draws.chance(0.4) && { minLength: draws.below(3), maxLength: 3 + draws.below(4) }),
  };
}

function number(draws: Draws): Schema {
  const least = draws.below(200) / 10 - 10;
  return {
    type: draws.of(["integer", "number"]),
    ...(draws.chance(0.5) && { minimum: least }),
    ...(draws.chance(0.5) && { exclusiveMaximum: least + 1 + draws.below(30) }),
  };
}

function array(draws: Draws, depth: number): Schema {
  return {
    type: "array",
    items: draws.chance(0.2) ? false : randomSchema(draws, depth),
    ...(draws.chance(0.4) && { prefixItems: [randomSchema(draws, depth)] }),
    ...(draws.chance(0.3) && { minItems: 1 }),
    ...(draws.chance(0.4) && { maxItems: 4 }),
  };
}

function object(draws: Draws, depth: number): Schema {
  const names = ["a", 'b"', "c\n", "é"].filter(() => draws.chance(0.6));
  return {
    type: "object",
    properties: Object.fromEntries(names.map((name) => [name, randomSchema(draws, depth)])),
    required: names.filter(() => draws.chance(0.4)),
    additionalProperties: draws.chance(0.4) && randomSchema(draws, depth),
    ...(draws.chance(0.3) && { minProperties: 1 }),
    ...(draws.chance(0.3) && { maxProperties: 4 }),
  };
}

function union(draws: Draws, depth: number): Schema {
  return { anyOf: [randomSchema(draws, depth), randomSchema(draws, depth)] };
}

/** Mostly to an end, seldom through blanks. */
function wanderer(draws: Draws): Choose {
  return (allowed) => {
    if (allowed.includes(EOS) && draws.chance(0.7)) return EOS;
    const closing = allowed.filter((id) => CLOSING.includes(id));
    if (closing.length > 0 && draws.chance(0.4)) return draws.of(closing);
    const inked = allowed.filter((id) => !BLANKS.includes(id));
    return draws.of(inked.length > 0 && draws.chance(0.9) ? inked : allowed);
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

Deno.test("whatever the masks of a random schema allow is JSON in UTF-8, and valid", async () => {
  const matcher = await byteMatcher();
  const ajv = new Ajv2020({ strict: false });
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let written = 0;
  for (let seed = 0; seed < (LONG ? 150 : 40); seed++) {
    const draws = new Draws(seed);
    const schema = randomSchema(draws, 0);
    const grammar = await matcher.compile(schema).catch((error) => {
      assert(error instanceof SchemaError, `${JSON.stringify(schema)}: ${error}`);
    });
    if (grammar === undefined) continue;
    const valid = ajv.compile(schema);
    for (let walk = 0; walk < 5; walk++) {
      const bytes = await grammar.write(wanderer(draws), 400);
      if (bytes === undefined) continue;
      const text = decoder.decode(bytes);
      const value = parsed(text);
      assert(value !== undefined && valid(value), `${JSON.stringify(schema)}: ${text}`);
      written++;
    }
  }
  assert(written > (LONG ? 500 : 130), `${written} written`);
});
