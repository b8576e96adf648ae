/** Python's operators and indexing over template values. */

import { formatPercent } from "./python/format.ts";
import type { BinaryOperator, Comparison } from "./nodes.ts";
import { str } from "./python/show.ts";
import {
  contains,
  defined,
  equal,
  isNumber,
  iterate,
  order,
  plainNumber,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./python/values.ts";

/** @throws {TypeError | RangeError} where Python has no such operation on these */
export function binary(operator: BinaryOperator, a: Value, b: Value): Value {
  if (operator === "~") return str(a) + str(b);
  defined(a);
  if (operator === "%" && typeof a === "string") return formatPercent(a, b);
  defined(b);
  if (isNumber(a) && isNumber(b)) return arithmetic(operator, plainNumber(a), plainNumber(b));
  if (operator === "+") {
    if (typeof a === "string" && typeof b === "string") return a + b;
    if (Array.isArray(a) && Array.isArray(b) && a instanceof Tuple === b instanceof Tuple) {
      return like(a, [...a, ...b]);
    }
  }
  if (operator === "*") {
    if (typeof b === "bigint" || typeof b === "boolean") return repeated(a, BigInt(b));
    if (typeof a === "bigint" || typeof a === "boolean") return repeated(b, BigInt(a));
  }
  throw unsupported(operator, a, b);
}

export function compare(operator: Comparison, a: Value, b: Value): boolean {
  switch (operator) {
    case "==":
      return equal(a, b);
    case "!=":
      return !equal(a, b);
    case "in":
      return contains(b, a);
    case "not in":
      return !contains(b, a);
    case "<":
      return order(a, b, operator) < 0;
    case "<=":
      return order(a, b, operator) <= 0;
    case ">":
      return order(a, b, operator) > 0;
    case ">=":
      return order(a, b, operator) >= 0;
  }
}

export function negative(value: Value): Value {
  defined(value);
  if (isNumber(value)) return -plainNumber(value);
  throw new TypeError(`bad operand type for unary -: '${typeName(value)}'`);
}

type Numeric = bigint | number;

function arithmetic(operator: BinaryOperator, a: Numeric, b: Numeric): Value {
  if (typeof a === "bigint" && typeof b === "bigint") {
    const exact = ofInts(operator, a, b);
    if (exact !== undefined) return exact;
  }
  return ofFloats(operator, Number(a), Number(b));
}

/** Undefined where two ints give a float. */
function ofInts(operator: BinaryOperator, a: bigint, b: bigint): bigint | undefined {
  switch (operator) {
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    case "**":
      return b >= 0n ? a ** b : undefined;
    case "//":
    case "%": {
      if (b === 0n) throw new RangeError("integer division or modulo by zero");
      // BigInt rounds towards zero, Python down.
      const rest = ((a % b) + b) % b;
      return operator === "%" ? rest : (a - rest) / b;
    }
    default:
      return undefined;
  }
}

function ofFloats(operator: BinaryOperator, a: number, b: number): number {
  const divides = operator === "/" || operator === "//" || operator === "%";
  if (divides && b === 0) throw new RangeError("division by zero");
  switch (operator) {
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    case "/":
      return a / b;
    case "//":
      return Math.floor(a / b);
    case "%": {
      const rest = a % b;
      return rest !== 0 && (rest < 0) !== (b < 0) ? rest + b : rest;
    }
    default:
      return a ** b;
  }
}

function repeated(value: Value, times: bigint): Value {
  const count = Math.max(0, Number(times));
  if (typeof value === "string") return value.repeat(count);
  if (Array.isArray(value)) return like(value, Array.from({ length: count }, () => value).flat());
  throw unsupported("*", value, times);
}

function like(model: readonly Value[], items: Value[]): Value {
  return model instanceof Tuple ? Tuple.from(items) : items;
}

function unsupported(operator: string, a: Value, b: Value): TypeError {
  if (operator === "+" && typeof a === "string") {
    return new TypeError(`can only concatenate str (not "${typeName(b)}") to str`);
  }
  const name = operator === "**" ? "** or pow()" : operator;
  return new TypeError(
    `unsupported operand type(s) for ${name}: '${typeName(a)}' and '${typeName(b)}'`,
  );
}

/** `of[index]` of a list, a text or a dict; undefined where there is none. */
export function itemOf(of: Value, index: Value): Value | undefined {
  if (of instanceof Map) return Array.isArray(index) ? undefined : of.get(index);
  if (typeof of !== "string" && !Array.isArray(of)) return undefined;
  if (typeof index !== "bigint" && typeof index !== "boolean") return undefined;
  return (typeof of === "string" ? [...of] : of).at(Number(index));
}

/** `of[start:stop:step]`. */
export function sliceOf(of: Value, bounds: readonly (Value | undefined)[]): Value {
  if (of instanceof Undefined) throw new TypeError(of.hint);
  if (typeof of !== "string" && !Array.isArray(of)) {
    throw new TypeError(`'${typeName(of)}' object is not subscriptable`);
  }
  const items = iterate(of);
  const picked = sliceIndices(items.length, bounds).map((i) => items[i] ?? null);
  return typeof of === "string" ? picked.join("") : like(of, picked);
}

/** Python's `slice.indices`. */
function sliceIndices(size: number, bounds: readonly (Value | undefined)[]): number[] {
  const [start, stop, step = 1] = bounds.map((bound) => {
    if (bound === undefined || bound === null) return undefined;
    if (typeof bound === "bigint" || typeof bound === "boolean") return Number(bound);
    throw new TypeError("slice indices must be integers or None or have an __index__ method");
  });
  if (step === 0) throw new RangeError("slice step cannot be zero");
  const [low, high] = step > 0 ? [0, size] : [-1, size - 1];
  const clamp = (bound: number): number =>
    Math.min(high, Math.max(low, bound < 0 ? bound + size : bound));
  const from = start === undefined ? (step > 0 ? low : high) : clamp(start);
  const to = stop === undefined ? (step > 0 ? high : low) : clamp(stop);
  const count = Math.max(0, Math.ceil((to - from) / step));
  return Array.from({ length: count }, (_, i) => from + i * step);
}
