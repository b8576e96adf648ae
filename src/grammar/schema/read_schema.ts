/**
 * From a JSON schema to what it allows (`shape.ts`). What cannot be held exactly is refused by its
 * keyword and its place, a JSON pointer. Two things are read more narrowly than JSON Schema says,
 * as its users mean them: keywords of objects or arrays imply that type, and `properties` without
 * `additionalProperties` names all properties there are.
 */
import { ANNOTATIONS, BY_TYPE, DEFINITIONS, keywordsOf, WHOLE } from "./keywords.ts";
import { readCounts, readNumbers, readStrings, type Schema, show } from "./read_scalars.ts";
import { refuse } from "./schema_error.ts";
import {
  ANY,
  type ArrayShape,
  NEVER,
  type ObjectShape,
  type Property,
  type Shape,
  type Shapes,
} from "./shape.ts";

type Said = "said" | "implied";

const DEEPEST_SCHEMA = 32;
/** Most items or properties that are counted. */
const MOST_ITEMS = 2000;
/** Most optional properties of one object: the time to compile grows with their square. */
const MOST_OPTIONAL = 128;

/**
 * Reads a schema and the schemas that it refers to.
 * @throws {SchemaError} naming the keyword and where it stands, if a grammar cannot hold it.
 */
export function readSchema(schema: unknown): Shapes {
  const reader = new SchemaReader(schema);
  return { root: reader.read(schema, "#", 0), references: reader.references() };
}

class SchemaReader {
  readonly #root: unknown;
  readonly #references = new Map<string, Shape>();
  /** References that were met but not yet read. */
  readonly #unread: { readonly target: string; readonly schema: unknown }[] = [];
  readonly #known = new Set<string>();

  constructor(root: unknown) {
    this.#root = root;
  }

  references(): ReadonlyMap<string, Shape> {
    for (let next = this.#unread.pop(); next !== undefined; next = this.#unread.pop()) {
      this.#references.set(next.target, this.read(next.schema, next.target, 0));
    }
    return this.#references;
  }

  read(schema: unknown, path: string, depth: number): Shape {
    if (schema === true) return ANY;
    if (schema === false) return NEVER;
    if (!isSchema(schema)) refuse(path, `is ${show(schema)}, not an object or a boolean`);
    if (depth > DEEPEST_SCHEMA) refuse(path, `is nested deeper than ${DEEPEST_SCHEMA} levels`);
    const whole = WHOLE.map(({ name }) => name).filter((name) => Object.hasOwn(schema, name));
    const { types, said } = typesOf(schema, path);
    checkKeywords(schema, path, { whole, types });
    const keyword = whole[0];
    if (keyword !== undefined) return this.#whole(schema, keyword, { types, path, depth });
    if (types.length === 0) return ANY;
    const options = types.map((type) => this.#typed(schema, type, { said, path, depth }));
    return options.length === 1 && options[0] ? options[0] : { kind: "union", options };
  }

  #whole(
    schema: Schema,
    keyword: string,
    { types, path, depth }: { types: readonly string[]; path: string; depth: number },
  ): Shape {
    const place = `${path}/${keyword}`;
    if (keyword === "$ref") return this.#reference(schema.$ref, place);
    if (keyword === "const" || keyword === "enum") {
      const values = keyword === "const" ? [schema.const] : list(schema.enum, place);
      for (const value of values) checkValue(value, types, place);
      return { kind: "values", values };
    }
    const options = list(schema[keyword], place);
    if (keyword === "allOf" && options.length > 1) {
      refuse(place, `has ${options.length} schemas, a grammar takes one: merge them`);
    }
    if (types.length > 0) refuse(`${path}/type`, `cannot stand beside ${keyword}`);
    const read = options.map((each, i) => this.read(each, `${place}/${i}`, depth + 1));
    return { kind: "union", options: read, ...(keyword === "oneOf" && { disjointAt: place }) };
  }

  #reference(reference: unknown, path: string): Shape {
    if (typeof reference !== "string" || !/^#(\/|$)/.test(reference)) {
      refuse(path, `is ${show(reference)}, only references within (#/…) work`);
    }
    const parts = reference.split("/").slice(1).map((part) => decodePart(part, reference, path));
    let schema: unknown = this.#root;
    for (const part of parts) {
      const within = typeof schema === "object" && schema !== null && Object.hasOwn(schema, part);
      if (!within) refuse(path, `leads nowhere: ${show(reference)}`);
      schema = Reflect.get(schema as object, part);
    }
    const target = parts.reduce((pointer, part) => `${pointer}/${escapePart(part)}`, "#");
    if (!this.#known.has(target)) {
      this.#known.add(target);
      this.#unread.push({ target, schema });
    }
    return { kind: "reference", target };
  }

  #typed(
    schema: Schema,
    type: string,
    { said, path, depth }: { said: Said; path: string; depth: number },
  ): Shape {
    switch (type) {
      case "string":
        return { kind: "string", strings: readStrings(schema, path) };
      case "integer":
      case "number":
        return readNumbers(schema, type, path);
      case "array":
        return this.#array(schema, said, path, depth);
      case "object":
        return this.#object(schema, said, path, depth);
      default:
        return { kind: type === "null" ? "null" : "boolean" };
    }
  }

  #array(schema: Schema, typed: Said, path: string, depth: number): ArrayShape {
    const prefix = Object.hasOwn(schema, "prefixItems")
      ? list(schema.prefixItems, `${path}/prefixItems`)
      : [];
    return {
      kind: "array",
      typed,
      prefix: prefix.map((each, i) => this.read(each, `${path}/prefixItems/${i}`, depth + 1)),
      rest: Object.hasOwn(schema, "items")
        ? this.read(schema.items, `${path}/items`, depth + 1)
        : ANY,
      ...readCounts(schema, ["minItems", "maxItems"], MOST_ITEMS, path),
    };
  }

  #object(schema: Schema, typed: Said, path: string, depth: number): ObjectShape {
    const named = Object.hasOwn(schema, "properties");
    const extra = Object.hasOwn(schema, "additionalProperties")
      ? this.read(schema.additionalProperties, `${path}/additionalProperties`, depth + 1)
      : named
      ? NEVER
      : ANY;
    const shape: ObjectShape = {
      kind: "object",
      typed,
      properties: this.#properties(schema, extra, path, depth),
      extra,
      closed: named && !Object.hasOwn(schema, "additionalProperties") ? "implied" : "said",
      ...readCounts(schema, ["minProperties", "maxProperties"], MOST_ITEMS, path),
    };
    const certain = shape.properties.filter(({ required }) => required).length + 1;
    if (extra !== NEVER && shape.least > certain) {
      refuse(
        `${path}/minProperties`,
        `is ${shape.least}: with additional properties, whose keys might repeat, ` +
          `a grammar counts to ${certain} here; name the properties`,
      );
    }
    return shape;
  }

  #properties(
    schema: Schema,
    extra: Shape,
    path: string,
    depth: number,
  ): readonly Property[] {
    const { properties = {}, required = [] } = schema;
    const place = `${path}/properties`;
    if (!isSchema(properties)) refuse(place, "is not an object of schemas");
    if (!Array.isArray(required)) refuse(`${path}/required`, "is not a list of names");
    for (const name of required) {
      const wrong = typeof name !== "string" ||
        (extra === NEVER && !Object.hasOwn(properties, name));
      if (wrong) refuse(`${path}/required`, `has ${show(name)}, which is not among the properties`);
    }
    const unnamed = [...new Set<string>(required)].filter((name) =>
      !Object.hasOwn(properties, name)
    );
    const named = Object.entries(properties).map(([name, each]): Property => ({
      name,
      shape: this.read(each, `${place}/${escapePart(name)}`, depth + 1),
      required: required.includes(name),
    }));
    const optional = named.filter((property) => !property.required).length;
    if (optional > MOST_OPTIONAL) {
      refuse(place, `has ${optional} optional ones, at most ${MOST_OPTIONAL} work`);
    }
    return [...named, ...unnamed.map((name) => ({ name, shape: extra, required: true }))];
  }
}

function checkKeywords(
  schema: Schema,
  path: string,
  { whole, types }: { readonly whole: readonly string[]; readonly types: readonly string[] },
): void {
  const heard = [...ANNOTATIONS, ...DEFINITIONS, "type", ...whole.slice(0, 1)];
  if (path === "#") heard.push("$id");
  if (whole.length === 0) heard.push(...types.flatMap(keywordsOf));
  for (const keyword of Object.keys(schema)) {
    if (heard.includes(keyword)) continue;
    refuse(`${path}/${escapePart(keyword)}`, unheard(keyword, whole, types));
  }
}

function unheard(keyword: string, whole: readonly string[], types: readonly string[]): string {
  const [first] = whole;
  if (first !== undefined) return `cannot stand beside ${first}`;
  if ([...BY_TYPE.keys()].some((type) => keywordsOf(type).includes(keyword))) {
    return types.length === 0 ? "needs a type beside it" : `does not apply to ${types.join(", ")}`;
  }
  if (keyword === "$id") return "can stand at the root only";
  return "is a keyword that a grammar cannot express";
}

/** The types that a schema names, or the one that its keywords imply. */
function typesOf(schema: Schema, path: string): { types: readonly string[]; said: Said } {
  if (!Object.hasOwn(schema, "type")) {
    const implied = ["object", "array"].filter((type) =>
      keywordsOf(type).some((keyword) => Object.hasOwn(schema, keyword))
    );
    return { types: implied.length === 1 ? implied : [], said: "implied" };
  }
  const types: readonly unknown[] = Array.isArray(schema.type) ? schema.type : [schema.type];
  const known = types.map((each) => {
    if (typeof each === "string" && BY_TYPE.has(each)) return each;
    return refuse(`${path}/type`, `is ${show(each)}, not one of ${[...BY_TYPE.keys()].join(", ")}`);
  });
  if (known.length === 0) refuse(`${path}/type`, "is an empty list");
  return { types: [...new Set(known)], said: "said" };
}

function checkValue(value: unknown, types: readonly string[], path: string): void {
  const type = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  const fits = types.includes(type) || (Number.isInteger(value) && types.includes("integer"));
  if (types.length > 0 && !fits) refuse(path, `has a ${type} where the type is ${types}`);
}

function decodePart(part: string, reference: string, path: string): string {
  try {
    return decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
  } catch {
    return refuse(path, `is ${show(reference)}, in which % does not begin an escape: write %25`);
  }
}

function escapePart(part: string): string {
  return part.replaceAll("~", "~0").replaceAll("/", "~1");
}

function list(value: unknown, path: string): readonly unknown[] {
  if (Array.isArray(value) && value.length > 0) return value;
  return refuse(path, "is not a list with at least one entry");
}

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
