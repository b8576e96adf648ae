/**
 * Which JSON schemas the grammar library can express. It drops some keywords without a word, so a
 * schema is read here first: what would be lost is refused by name and place, and what the library's
 * strict mode would narrow too far is spelled out. It knows no grammar.
 */
import { jsonPattern, lengthPattern } from "./json_pattern.ts";
import { FieldError } from "./request.ts";

/** Where a request has its schema. */
export const SCHEMA_FIELD = "response_format.json_schema.schema";

type Schema = { readonly [keyword: string]: unknown };

const LARGEST_SCHEMA = 65_536;
const DEEPEST_SCHEMA = 32;
/** Counts of items and properties. */
const MOST_ITEMS = 2000;
/** Characters counted in strings: each costs the library about 20 ms to compile (49,152 tokens). */
const MOST_CHARACTERS = 256;

const ANNOTATIONS = [
  "$comment",
  "$id",
  "$schema",
  "default",
  "deprecated",
  "description",
  "examples",
  "readOnly",
  "title",
  "writeOnly",
];
/** Keywords that stand for the whole schema: no constraint beside them would be heard. */
const WHOLE = ["$ref", "const", "enum", "anyOf", "oneOf", "allOf"];
const NUMBER = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
const BY_TYPE: Readonly<Record<string, readonly string[]>> = {
  string: ["minLength", "maxLength", "pattern", "format"],
  integer: NUMBER,
  number: NUMBER,
  boolean: [],
  null: [],
  array: ["items", "prefixItems", "minItems", "maxItems"],
  object: ["properties", "required", "additionalProperties", "minProperties", "maxProperties"],
};
const FORMATS = [
  "date",
  "time",
  "date-time",
  "duration",
  "email",
  "hostname",
  "ipv4",
  "ipv6",
  "uuid",
  "uri",
  "uri-reference",
  "uri-template",
  "json-pointer",
  "relative-json-pointer",
];

/**
 * The schema as the library is to read it, as JSON text.
 * @throws {FieldError} naming the keyword and where it stands, if the library cannot express it.
 */
export function expressibleSchema(schema: unknown): string {
  const text = JSON.stringify(read(schema, "#", { root: schema, depth: 0 }));
  if (text.length <= LARGEST_SCHEMA) return text;
  throw new FieldError(
    SCHEMA_FIELD,
    `Cannot use the JSON schema: it has ${text.length} characters, at most ${LARGEST_SCHEMA} work`,
  );
}

interface Place {
  readonly root: unknown;
  readonly depth: number;
}

function read(schema: unknown, path: string, place: Place): unknown {
  if (schema === true) return true;
  if (!isSchema(schema)) refuse(path, `is ${JSON.stringify(schema)}, not an object or true`);
  if (place.depth > DEEPEST_SCHEMA) refuse(path, `is nested deeper than ${DEEPEST_SCHEMA} levels`);
  const inner = { ...place, depth: place.depth + 1 };
  const whole = WHOLE.filter((keyword) => keyword in schema);
  const types = typesOf(schema, path);
  const heard = [...ANNOTATIONS, "$defs", "definitions", "type", ...whole.slice(0, 1)];
  if (whole.length === 0) heard.push(...types.flatMap((type) => BY_TYPE[type] ?? []));
  for (const keyword of Object.keys(schema)) {
    if (!heard.includes(keyword)) refuse(`${path}/${keyword}`, unheard(keyword, whole, types));
  }
  const definitions = readDefinitions(schema, path, inner);
  if (whole.length > 0) return { ...readWhole(schema, types, path, inner), ...definitions };
  const read: Record<string, unknown> = { ...withoutAnnotations(schema), ...definitions };
  if (types.length > 0 && schema.type === undefined) read.type = types[0];
  checkRanges(schema, path);
  if (types.includes("string")) Object.assign(read, readString(schema, path));
  if (types.includes("array")) Object.assign(read, readArray(schema, path, inner));
  if (types.includes("object")) Object.assign(read, readObject(schema, path, inner));
  return read;
}

function unheard(keyword: string, whole: readonly string[], types: readonly string[]): string {
  const [first] = whole;
  if (first !== undefined) return `cannot stand beside ${first}`;
  if (Object.values(BY_TYPE).some((keywords) => keywords.includes(keyword))) {
    return types.length === 0 ? "needs a type beside it" : `does not apply to ${types.join(", ")}`;
  }
  return "is a keyword that the grammar library cannot express";
}

/** The types a schema names, or the one that its keywords imply. */
function typesOf(schema: Schema, path: string): readonly string[] {
  const { type } = schema;
  if (type === undefined) {
    const implied = ["object", "array"].filter((each) =>
      BY_TYPE[each]?.some((keyword) => keyword in schema)
    );
    return implied.length === 1 ? implied : [];
  }
  const types = Array.isArray(type) ? type : [type];
  for (const each of types) {
    if (typeof each !== "string" || !(each in BY_TYPE)) {
      refuse(`${path}/type`, `is ${JSON.stringify(each)}, not one of ${Object.keys(BY_TYPE)}`);
    }
  }
  return types;
}

function readDefinitions(schema: Schema, path: string, place: Place): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const keyword of ["$defs", "definitions"]) {
    if (!(keyword in schema)) continue;
    found[keyword] = readEach(schema[keyword], `${path}/${keyword}`, place);
  }
  return found;
}

function readWhole(
  schema: Schema,
  types: readonly string[],
  path: string,
  place: Place,
): Record<string, unknown> {
  if ("$ref" in schema) return { $ref: checkReference(schema.$ref, path, place.root) };
  if ("const" in schema) return { const: checkValue(schema.const, types, `${path}/const`) };
  if ("enum" in schema) {
    const values = list(schema.enum, `${path}/enum`);
    return { enum: values.map((value) => checkValue(value, types, `${path}/enum`)) };
  }
  const keyword = WHOLE.find((each) => each in schema) ?? "anyOf";
  const options = list(schema[keyword], `${path}/${keyword}`);
  if (keyword === "allOf" && options.length > 1) {
    refuse(`${path}/allOf`, `has ${options.length} schemas, the grammar library takes one`);
  }
  if (types.length > 0) refuse(`${path}/type`, `cannot stand beside ${keyword}`);
  return { [keyword]: options.map((each, i) => read(each, `${path}/${keyword}/${i}`, place)) };
}

function checkReference(reference: unknown, path: string, root: unknown): string {
  if (typeof reference !== "string" || !/^#(\/|$)/.test(reference)) {
    refuse(`${path}/$ref`, `is ${JSON.stringify(reference)}, only references within (#/…) work`);
  }
  let target: unknown = root;
  for (const part of reference.split("/").slice(1)) {
    const name = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
    target = isSchema(target) || Array.isArray(target) ? Reflect.get(target, name) : undefined;
  }
  if (target === undefined) refuse(`${path}/$ref`, `leads nowhere: ${reference}`);
  return reference;
}

function checkValue(value: unknown, types: readonly string[], path: string): unknown {
  const type = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  const fits = types.includes(type) || (Number.isInteger(value) && types.includes("integer"));
  if (types.length > 0 && !fits) refuse(path, `has a ${type} where the type is ${types}`);
  return value;
}

function checkRanges(schema: Schema, path: string): void {
  const pairs = [
    ["minLength", "maxLength"],
    ["minItems", "maxItems"],
    ["minProperties", "maxProperties"],
  ] as const;
  for (const [least, most] of pairs) {
    const limit = least === "minLength" ? MOST_CHARACTERS : MOST_ITEMS;
    for (const keyword of [least, most]) checkCount(schema[keyword], limit, `${path}/${keyword}`);
    checkOrder(schema[least], schema[most], `${path}/${least}`);
  }
  for (const keyword of NUMBER) {
    const bound = schema[keyword];
    if (bound !== undefined && typeof bound !== "number") {
      refuse(`${path}/${keyword}`, `is ${JSON.stringify(bound)}, not a number`);
    }
  }
  checkOrder(schema.minimum, schema.maximum, `${path}/minimum`);
}

function checkCount(count: unknown, limit: number, path: string): void {
  if (count === undefined) return;
  if (!Number.isInteger(count) || Number(count) < 0 || Number(count) > limit) {
    refuse(path, `is ${JSON.stringify(count)}, not an integer of 0 … ${limit}`);
  }
}

function checkOrder(least: unknown, most: unknown, path: string): void {
  if (typeof least === "number" && typeof most === "number" && least > most) {
    refuse(path, `is ${least}, above its maximum ${most}`);
  }
}

/** Lengths become a pattern too: the library's own would let bare control characters through. */
function readString(schema: Schema, path: string): Record<string, unknown> {
  const { pattern, format, minLength, maxLength } = schema;
  if (format !== undefined && (typeof format !== "string" || !FORMATS.includes(format))) {
    refuse(`${path}/format`, `is ${JSON.stringify(format)}, not one of ${FORMATS.join(", ")}`);
  }
  const first = ["pattern", "format"].find((keyword) => keyword in schema);
  for (const keyword of ["format", "minLength", "maxLength"]) {
    if (first !== undefined && keyword !== first && keyword in schema) {
      refuse(`${path}/${keyword}`, `cannot stand beside ${first}`);
    }
  }
  if (pattern !== undefined) return { pattern: readPattern(pattern, `${path}/pattern`) };
  if (minLength === undefined && maxLength === undefined) return {};
  const most = maxLength === undefined ? undefined : Number(maxLength);
  const lengths = { minLength: undefined, maxLength: undefined };
  return { ...lengths, pattern: lengthPattern(Number(minLength ?? 0), most) };
}

function readPattern(pattern: unknown, path: string): string {
  if (typeof pattern !== "string") refuse(path, "is not a string");
  try {
    return jsonPattern(pattern, MOST_CHARACTERS);
  } catch (error) {
    if (error instanceof TypeError) refuse(path, `cannot be expressed: ${error.message}`);
    throw error;
  }
}

/** Strict mode reads missing items as none: spelled out as any. */
function readArray(schema: Schema, path: string, place: Place): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  if ("prefixItems" in schema) {
    const items = list(schema.prefixItems, `${path}/prefixItems`);
    found.prefixItems = items.map((each, i) => read(each, `${path}/prefixItems/${i}`, place));
  }
  if (schema.items === false && "prefixItems" in schema) found.items = false;
  else if ("items" in schema) found.items = read(schema.items, `${path}/items`, place);
  else if (!("prefixItems" in schema)) found.items = true;
  return found;
}

/** Strict mode reads missing properties as none: spelled out as any. */
function readObject(schema: Schema, path: string, place: Place): Record<string, unknown> {
  const { properties, additionalProperties: more, required } = schema;
  const found: Record<string, unknown> = {};
  if (properties !== undefined) {
    found.properties = readEach(properties, `${path}/properties`, place);
  }
  if (more === false || more === undefined) found.additionalProperties = properties === undefined;
  else found.additionalProperties = read(more, `${path}/additionalProperties`, place);
  if (more === false) found.additionalProperties = false;
  if (required === undefined) return found;
  const known = isSchema(properties) ? properties : {};
  for (const name of list(required, `${path}/required`, { empty: true })) {
    if (typeof name !== "string" || !Object.hasOwn(known, name)) {
      refuse(`${path}/required`, `has ${JSON.stringify(name)}, which is not among the properties`);
    }
  }
  return found;
}

function readEach(schemas: unknown, path: string, place: Place): Record<string, unknown> {
  if (!isSchema(schemas)) refuse(path, "is not an object of schemas");
  const entries = Object.entries(schemas);
  return Object.fromEntries(entries.map(([name, each]) => [
    name,
    read(each, `${path}/${name}`, place),
  ]));
}

function list(
  value: unknown,
  path: string,
  options?: { readonly empty: boolean },
): readonly unknown[] {
  if (Array.isArray(value) && (value.length > 0 || options?.empty)) return value;
  return refuse(path, "is not a list with at least one entry");
}

function withoutAnnotations(schema: Schema): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(schema).filter(([keyword]) => !ANNOTATIONS.includes(keyword)),
  );
}

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refuse(path: string, wrong: string): never {
  throw new FieldError(SCHEMA_FIELD, `Cannot use the JSON schema: ${path} ${wrong}`);
}
