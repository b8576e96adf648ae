/**
 * What a schema allows, once it has been read: a tree that the grammar is written from. References
 * stay references, so that a schema may speak of itself.
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
  /** Where options that have a value in common are refused (`oneOf`). */
  readonly disjointAt?: string;
}

export interface ArrayShape {
  readonly kind: "array";
  /** Whether the schema says so, or its keywords only let one think so. */
  readonly typed: "said" | "implied";
  readonly prefix: readonly Shape[];
  /** What follows the prefix. */
  readonly rest: Shape;
  readonly least: number;
  readonly most: number;
}

export interface ObjectShape {
  readonly kind: "object";
  readonly typed: "said" | "implied";
  /** In the order in which they are written. */
  readonly properties: readonly Property[];
  /** What other properties hold. */
  readonly extra: Shape;
  /** Whether `extra` is the schema's own word, or taken to be none. */
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

/** What a reference stands for. */
export function targetOf(references: ReadonlyMap<string, Shape>, target: string): Shape {
  const shape = references.get(target);
  if (shape === undefined) throw new RangeError(`internal: reference ${target} was not read`);
  return shape;
}
