/**
 * What a schema allows, once it has been read: a tree from which the grammar is written. References
 * are not resolved, so that a schema may refer to itself.
 */
import type { Automaton } from "../automata/automaton.ts";
import type { NumberRange } from "./numbers.ts";

export type Shape =
  | { readonly kind: "any" | "never" | "boolean" | "null" }
  | { readonly kind: "values"; readonly values: readonly unknown[] }
  /** Undefined = any string. */
  | { readonly kind: "string"; readonly strings: Automaton | undefined }
  | { readonly kind: "number"; readonly range: NumberRange; readonly spellings: Automaton }
  | ArrayShape
  | ObjectShape
  | UnionShape
  /** `target` is the key of `Shapes.references`. */
  | { readonly kind: "reference"; readonly target: string };

export interface UnionShape {
  readonly kind: "union";
  readonly options: readonly Shape[];
  /** Where options with a value in common are refused (`oneOf`). */
  readonly disjointAt?: string;
}

export interface ArrayShape {
  readonly kind: "array";
  /** Whether the schema names the type, or its keywords imply it. */
  readonly typed: "said" | "implied";
  readonly prefix: readonly Shape[];
  /** The items behind the prefix. */
  readonly rest: Shape;
  readonly least: number;
  readonly most: number;
}

export interface ObjectShape {
  readonly kind: "object";
  readonly typed: "said" | "implied";
  /** In the order in which they are written. */
  readonly properties: readonly Property[];
  /** The values of other properties. */
  readonly extra: Shape;
  /** Whether the schema says `extra`, or it is taken to be none. */
  readonly closed: "said" | "implied";
  readonly least: number;
  readonly most: number;
}

export interface Property {
  readonly name: string;
  readonly shape: Shape;
  readonly required: boolean;
}

/** A whole schema. */
export interface Shapes {
  readonly root: Shape;
  /** What each reference leads to, by its canonical pointer. */
  readonly references: ReadonlyMap<string, Shape>;
}

export const ANY: Shape = { kind: "any" };
export const NEVER: Shape = { kind: "never" };

/** The shape that a reference leads to. */
export function targetOf(references: ReadonlyMap<string, Shape>, target: string): Shape {
  const shape = references.get(target);
  if (shape === undefined) throw new RangeError(`internal: reference ${target} was not read`);
  return shape;
}
