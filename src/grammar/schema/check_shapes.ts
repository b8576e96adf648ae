/**
 * Checks of a schema's shapes before a grammar is written: references end, there is at least one
 * value, and the schemas of a `oneOf` have no value in common. Where it cannot be decided whether
 * they have one, it is assumed that they do.
 */
import { accepts, intersect, isEmpty } from "../automata/automaton.ts";
import { refuse } from "./schema_error.ts";
import { type ArrayShape, type ObjectShape, type Shape, type Shapes, targetOf } from "./shape.ts";

/** @throws {SchemaError} */
export function checkShapes(shapes: Shapes, possible: (shape: Shape) => boolean): void {
  checkReferences(shapes);
  if (!possible(shapes.root)) refuse("#", "allows no value");
  for (const shape of [shapes.root, ...shapes.references.values()]) {
    visit(shape, (each) => {
      if (each.kind === "union") checkDisjoint(each.options, each.disjointAt, shapes, possible);
    });
  }
}

/**
 * The shapes that have a value of finite length: the least fixed point over the references, so a
 * schema whose values need one of their own kind inside has none.
 */
export function possibleShapes({ references }: Shapes): (shape: Shape) => boolean {
  const known = new Set<string>();
  const possible = (shape: Shape): boolean => {
    switch (shape.kind) {
      case "never":
        return false;
      case "values":
        return shape.values.length > 0;
      case "string":
        return shape.strings === undefined || !isEmpty(shape.strings);
      case "number":
        return !isEmpty(shape.spellings);
      case "array":
        return shape.least <= longest(shape, possible);
      case "object":
        return fits(shape, possible);
      case "union":
        return shape.options.some(possible);
      case "reference":
        return known.has(shape.target);
      default:
        return true;
    }
  };
  for (let size = -1; size < known.size;) {
    size = known.size;
    for (const [target, shape] of references) if (possible(shape)) known.add(target);
  }
  return possible;
}

/** Most items that an array can have, given the shapes that have no value. */
export function longest(shape: ArrayShape, possible: (shape: Shape) => boolean): number {
  const { prefix, rest, most } = shape;
  const stop = prefix.findIndex((each) => !possible(each));
  if (stop >= 0) return Math.min(stop, most);
  return possible(rest) ? most : Math.min(prefix.length, most);
}

function fits(shape: ObjectShape, possible: (shape: Shape) => boolean): boolean {
  const { properties, extra, least, most } = shape;
  const required = properties.filter((each) => each.required);
  const count = properties.filter((each) => possible(each.shape)).length;
  return required.every((each) => possible(each.shape)) && required.length <= most &&
    (least <= count || possible(extra));
}

function visit(shape: Shape, see: (shape: Shape) => void): void {
  see(shape);
  if (shape.kind === "union") shape.options.forEach((each) => visit(each, see));
  if (shape.kind === "array") [...shape.prefix, shape.rest].forEach((each) => visit(each, see));
  if (shape.kind === "object") {
    shape.properties.forEach((each) => visit(each.shape, see));
    visit(shape.extra, see);
  }
}

/** Refuses a reference that leads straight back to itself: it constrains nothing. */
function checkReferences({ references }: Shapes): void {
  const done = new Set<string>();
  const follow = (shape: Shape, trail: readonly string[]): void => {
    if (shape.kind === "union") shape.options.forEach((each) => follow(each, trail));
    if (shape.kind !== "reference" || done.has(shape.target)) return;
    if (trail.includes(shape.target)) refuse(shape.target, "refers to itself and to nothing else");
    follow(targetOf(references, shape.target), [...trail, shape.target]);
    done.add(shape.target);
  };
  for (const target of references.keys()) follow({ kind: "reference", target }, []);
}

function checkDisjoint(
  options: readonly Shape[],
  at: string | undefined,
  { references }: Shapes,
  possible: (shape: Shape) => boolean,
): void {
  if (at === undefined) return;
  const overlaps = new Overlaps(references);
  for (const [i, one] of options.entries()) {
    for (const [j, other] of options.slice(0, i).entries()) {
      if (!possible(one) || !possible(other) || !overlaps.mayMeet(one, other, 0)) continue;
      refuse(
        `${at}/${i}`,
        `may have values in common with ${at}/${j}, which oneOf forbids: use anyOf, ` +
          "or tell them apart by a required property with a const",
      );
    }
  }
}

/** Levels that are compared; below them, a common value is assumed. */
const DEEPEST_COMPARISON = 8;

class Overlaps {
  readonly #references: ReadonlyMap<string, Shape>;

  constructor(references: ReadonlyMap<string, Shape>) {
    this.#references = references;
  }

  /** Whether the two may have a value in common. */
  mayMeet(one: Shape, other: Shape, depth: number): boolean {
    if (depth > DEEPEST_COMPARISON) return true;
    if (one.kind === "never" || other.kind === "never") return false;
    for (const [a, b] of [[one, other], [other, one]] as const) {
      if (a.kind === "any") return true;
      if (a.kind === "union") return a.options.some((each) => this.mayMeet(each, b, depth + 1));
      if (a.kind === "reference") {
        return this.mayMeet(targetOf(this.#references, a.target), b, depth + 1);
      }
    }
    for (const [a, b] of [[one, other], [other, one]] as const) {
      if (a.kind === "values") return a.values.some((value) => this.#mayBe(value, b, depth + 1));
    }
    if (one.kind !== other.kind) return isLoose(one) || isLoose(other);
    return this.#sameKind(one, other, depth + 1);
  }

  #sameKind(one: Shape, other: Shape, depth: number): boolean {
    if (one.kind === "string" && other.kind === "string") {
      if (one.strings === undefined || other.strings === undefined) return true;
      return !isEmpty(intersect(one.strings, other.strings));
    }
    if (one.kind === "number" && other.kind === "number") {
      return !isEmpty(intersect(one.spellings, other.spellings));
    }
    if (one.kind === "array" && other.kind === "array") return this.#arrays(one, other, depth);
    if (one.kind === "object" && other.kind === "object") return this.#objects(one, other, depth);
    return true;
  }

  #arrays(one: ArrayShape, other: ArrayShape, depth: number): boolean {
    if (isLoose(one) && isLoose(other)) return true;
    if (one.least > other.most || other.least > one.most) return false;
    const shared = Math.min(Math.max(one.least, other.least), 16);
    return Array.from({ length: shared }, (_, i) => i).every((i) =>
      this.mayMeet(one.prefix[i] ?? one.rest, other.prefix[i] ?? other.rest, depth)
    );
  }

  #objects(one: ObjectShape, other: ObjectShape, depth: number): boolean {
    if (isLoose(one) && isLoose(other)) return true;
    if (one.least > other.most || other.least > one.most) return false;
    return [[one, other], [other, one]].every(([a, b]) =>
      a === undefined || b === undefined || a.properties.every((property) => {
        if (!property.required) return true;
        const own = b.properties.find(({ name }) => name === property.name);
        if (own !== undefined) return this.mayMeet(property.shape, own.shape, depth);
        return b.closed === "implied" || this.mayMeet(property.shape, b.extra, depth);
      })
    );
  }

  #mayBe(value: unknown, shape: Shape, depth: number): boolean {
    const text = canonical(value);
    if (shape.kind === "values") return shape.values.some((each) => canonical(each) === text);
    if (isLoose(shape) && shape.kind !== kindOf(value)) return true;
    if (shape.kind !== kindOf(value)) return false;
    if (shape.kind === "string" && shape.strings !== undefined) {
      return accepts(shape.strings, String(value));
    }
    if (shape.kind === "number") return accepts(shape.spellings, text) || /e|\d{15}/.test(text);
    if (shape.kind === "array" && Array.isArray(value)) {
      return isLoose(shape) || value.length >= shape.least && value.length <= shape.most &&
          value.every((each, i) =>
            this.mayMeet(constant(each), shape.prefix[i] ?? shape.rest, depth)
          );
    }
    return true;
  }
}

function constant(value: unknown): Shape {
  return { kind: "values", values: [value] };
}

/** Whether the type is only implied: in JSON Schema, values of all other types would fit, too. */
function isLoose(shape: Shape): boolean {
  return (shape.kind === "array" || shape.kind === "object") && shape.typed === "implied";
}

function kindOf(value: unknown): Shape["kind"] {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  const type = typeof value;
  return type === "string" || type === "number" || type === "boolean" ? type : "object";
}

/** JSON text that does not depend on the order of keys. */
function canonical(value: unknown): string {
  return JSON.stringify(
    value,
    (_, each) =>
      typeof each === "object" && each !== null && !Array.isArray(each)
        ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
        : each,
  );
}
