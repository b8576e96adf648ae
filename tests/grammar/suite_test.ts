/**
 * JSON Schema's own test suite (draft 4, as its npm package has it): each schema is refused by name,
 * or its grammar accepts every valid value and no invalid one. Two readings are narrower on purpose
 * (see `read_schema.ts`), and made plain here by a validator on the schema that spells them out.
 */
import { createRequire } from "node:module";
import { Ajv2020 } from "ajv/dist/2020.js";
import { assert, assertEquals } from "@std/assert";
import { FORMATS } from "../../src/grammar/schema/formats.ts";
import { BY_TYPE, keywordsOf, WHOLE } from "../../src/grammar/schema/keywords.ts";
import { MOST_DIGITS } from "../../src/grammar/schema/numbers.ts";
import { SchemaError } from "../../src/grammar/schema/schema_error.ts";
import { type Accepter, type ByteMatcher, byteMatcher } from "./byte_matcher.ts";

type Schema = Record<string, unknown>;

interface Group {
  readonly description: string;
  readonly schema: unknown;
  readonly tests: readonly {
    readonly description: string;
    readonly data: unknown;
    readonly valid: boolean;
  }[];
}

const BOUNDS = [["minimum", "exclusiveMinimum"], ["maximum", "exclusiveMaximum"]] as const;
/** More digits than a grammar writes. */
const LONG_NUMBER = new RegExp(`\\d{${MOST_DIGITS + 1}}|e\\+`);

async function groups(): Promise<readonly (Group & { readonly file: string })[]> {
  const folder = new URL(
    "tests/draft4/",
    `file://${createRequire(import.meta.url).resolve("json-schema-test-suite")}`,
  );
  const found: (Group & { readonly file: string })[] = [];
  for (const place of ["", "optional/"]) {
    for (const { name } of Deno.readDirSync(new URL(place, folder))) {
      // 1.0 is 1 as soon as it is parsed
      if (!name.endsWith(".json") || name === "zeroTerminatedFloats.json") continue;
      const text = await Deno.readTextFile(new URL(place + name, folder));
      found.push(
        ...(JSON.parse(text) as Group[]).map((group) => ({ ...group, file: place + name })),
      );
    }
  }
  return found;
}

/** The schema as the latest draft writes it, each part with the type that its keywords speak of. */
function modern(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(modern);
  if (typeof schema !== "object" || schema === null) return schema;
  const own: Schema = Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [
      key,
      ["enum", "const", "required", "default"].includes(key)
        ? value
        : ["properties", "definitions"].includes(key)
        ? Object.fromEntries(Object.entries(value).map(([name, each]) => [name, modern(each)]))
        : modern(value),
    ]),
  );
  for (const [bound, exclusive] of BOUNDS) {
    if (own[exclusive] !== true) continue;
    own[exclusive] = own[bound];
    delete own[bound];
  }
  if (Array.isArray(own.items)) {
    own.prefixItems = own.items;
    own.items = own.additionalItems ?? true;
    delete own.additionalItems;
  }
  if (WHOLE.some(({ name }) => name in own)) return own;
  const spoken = ["object", "array", "string", "number"].filter((type) =>
    keywordsOf(type).some((keyword) => keyword in own)
  );
  if (!("type" in own) && spoken.length === 1) own.type = spoken[0];
  if ("properties" in own && !("additionalProperties" in own)) own.additionalProperties = false;
  return own;
}

function keywordsIn(schema: unknown): readonly string[] {
  if (typeof schema !== "object" || schema === null) return [];
  return Object.entries(schema).flatMap(([key, value]) => [key, ...keywordsIn(value)]);
}

/** Texts of a value: a grammar has the properties in one order. */
function spellings(value: unknown): readonly string[] {
  if (Array.isArray(value)) {
    return product(value.map(spellings)).map((parts) => `[${parts.join(",")}]`);
  }
  if (typeof value !== "object" || value === null) return [JSON.stringify(value)];
  return permutations(Object.entries(value)).flatMap((entries) =>
    product(entries.map(([, each]) => spellings(each))).map((parts) =>
      `{${parts.map((part, i) => `${JSON.stringify(entries[i]?.[0])}:${part}`).join(",")}}`
    )
  );
}

function product(lists: readonly (readonly string[])[]): readonly (readonly string[])[] {
  return lists.reduce<readonly (readonly string[])[]>(
    (rows, list) => rows.flatMap((row) => list.map((each) => [...row, each])),
    [[]],
  );
}

function permutations<T>(items: readonly T[]): readonly (readonly T[])[] {
  if (items.length < 2) return [items];
  return items.flatMap((item, at) =>
    permutations(items.filter((_, i) => i !== at)).map((rest) => [item, ...rest])
  );
}

async function acceptsAny(grammar: Accepter, value: unknown): Promise<boolean> {
  for (const text of spellings(value)) if (await grammar.accepts(text)) return true;
  return false;
}

async function compileOrRefuse(matcher: ByteMatcher, schema: unknown) {
  try {
    return await matcher.compile(schema);
  } catch (error) {
    assert(error instanceof SchemaError, `${JSON.stringify(schema)}: ${error}`);
    assert(error.pointer.startsWith("#"), error.message);
    return error;
  }
}

Deno.test("JSON Schema's test suite: refused by name, or exact", async () => {
  const matcher = await byteMatcher();
  const ajv = new Ajv2020({ strict: false, validateFormats: false, logger: false });
  const held = new Set<string>();
  let checked = 0;
  for (const { file, description, schema, tests } of await groups()) {
    await compileOrRefuse(matcher, schema);
    const plain = modern(schema) as Schema;
    const grammar = await compileOrRefuse(matcher, plain);
    if (grammar instanceof SchemaError) continue;
    const validate = ajv.compile(plain);
    keywordsIn(plain).forEach((keyword) => held.add(keyword));
    const narrower = FORMATS.get(String(plain.format))?.narrower !== undefined;
    for (const { description: test, data, valid } of tests) {
      if (test === "a valid protocol-relative URI") continue; // none any more since draft 6
      if (valid && (narrower || LONG_NUMBER.test(JSON.stringify(data)))) continue;
      checked++;
      const expected = valid && validate(data);
      assertEquals(await acceptsAny(grammar, data), expected, `${file}: ${description}: ${test}`);
    }
  }
  assert(checked > 150, `${checked} checked`);
  const known = [...[...BY_TYPE.keys()].flatMap(keywordsOf), ...WHOLE.map(({ name }) => name)];
  // the suite is older than const; its oneOf overlap, its allOf have two schemas: all refused
  assertEquals([...new Set(known)].filter((keyword) => !held.has(keyword)), [
    "const",
    "oneOf",
    "allOf",
  ]);
});
