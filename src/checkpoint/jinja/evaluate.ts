/** Jinja's expressions computed over Python's values. */

import { attributeOf, memberOf } from "./builtins/list_filters.ts";
import { runFilter } from "./builtins/filters.ts";
import type { Arguments, Expression, FilterCall } from "./nodes.ts";
import { binary, compare, negative, sliceOf } from "./operators.ts";
import { str } from "./python/show.ts";
import { runTest } from "./builtins/tests.ts";
import {
  Callable,
  defined,
  isNumber,
  iterate,
  plainNumber,
  truth,
  tuple,
  typeName,
  Undefined,
  type Value,
} from "./python/values.ts";

/** Names and their values: what is not here may be in the scope around. */
export class Scope {
  readonly #names = new Map<string, Value>();
  readonly #outer: Scope | undefined;

  constructor(outer?: Scope) {
    this.#outer = outer;
  }

  set(name: string, value: Value): void {
    this.#names.set(name, value);
  }

  get(name: string): Value {
    const value = this.#names.get(name);
    if (value !== undefined) return value;
    return this.#outer === undefined
      ? new Undefined(`'${name}' is undefined`)
      : this.#outer.get(name);
  }
}

/** @throws {TypeError | RangeError} where Python or Jinja would raise */
export function evaluate(node: Expression, scope: Scope): Value {
  switch (node.kind) {
    case "constant":
      return node.value;
    case "name":
      return scope.get(node.name);
    case "list":
      return node.items.map((item) => evaluate(item, scope));
    case "tuple":
      return tuple(...node.items.map((item) => evaluate(item, scope)));
    case "dict":
      return new Map(
        node.entries.map((
          [key, value],
        ) => [hashable(evaluate(key, scope)), evaluate(value, scope)]),
      );
    case "attribute":
      return attributeOf(evaluate(node.of, scope), node.name);
    case "item":
      return memberOf(evaluate(node.of, scope), evaluate(node.index, scope));
    case "slice":
      return sliceOf(
        evaluate(node.of, scope),
        [0, 1, 2].map((i) => node.bounds[i] && evaluate(node.bounds[i], scope)),
      );
    case "call":
      return call(evaluate(node.callee, scope), node.args, scope);
    case "filter":
      return applyFilter(evaluate(node.of, scope), node.filter, scope);
    case "test": {
      const { args, named } = evaluateArguments(node.args, scope);
      return runTest(node.name, evaluate(node.of, scope), args, named) !== node.negated;
    }
    case "not":
      return !truth(evaluate(node.of, scope));
    case "negative":
      return negative(evaluate(node.of, scope));
    case "positive":
      return positive(evaluate(node.of, scope));
    case "and":
    case "or": {
      const left = evaluate(node.left, scope);
      return truth(left) === (node.kind === "and") ? evaluate(node.right, scope) : left;
    }
    case "binary":
      return binary(node.operator, evaluate(node.left, scope), evaluate(node.right, scope));
    case "compare":
      return compared(node, scope);
    case "choice": {
      if (truth(evaluate(node.test, scope))) return evaluate(node.yes, scope);
      if (node.no !== undefined) return evaluate(node.no, scope);
      return new Undefined("the inline if-expression evaluated to false and no else was given");
    }
  }
}

export function applyFilter(of: Value, { name, args }: FilterCall, scope: Scope): Value {
  const given = evaluateArguments(args, scope);
  return runFilter(name, of, given.args, given.named);
}

/** `a < b < c` is `a < b and b < c`. */
function compared(node: Expression & { kind: "compare" }, scope: Scope): boolean {
  let left = evaluate(node.first, scope);
  for (const [operator, expression] of node.rest) {
    const right = evaluate(expression, scope);
    if (!compare(operator, left, right)) return false;
    left = right;
  }
  return true;
}

function positive(value: Value): Value {
  defined(value);
  if (isNumber(value)) return plainNumber(value);
  throw new TypeError(`bad operand type for unary +: '${typeName(value)}'`);
}

function hashable(key: Value): Value {
  if (key instanceof Map || (Array.isArray(key) && typeName(key) === "list")) {
    throw new TypeError(`unhashable type: '${typeName(key)}'`);
  }
  return key;
}

function call(callee: Value, args: Arguments, scope: Scope): Value {
  defined(callee);
  if (!(callee instanceof Callable)) {
    throw new TypeError(`'${typeName(callee)}' object is not callable`);
  }
  const given = evaluateArguments(args, scope);
  return callee.call(given.args, given.named);
}

/** Values of arguments, those of `*` and `**` among them. */
export function evaluateArguments(
  { positional, named, rest, namedRest }: Arguments,
  scope: Scope,
): { readonly args: readonly Value[]; readonly named: ReadonlyMap<string, Value> } {
  const args = positional.map((one) => evaluate(one, scope));
  if (rest !== undefined) args.push(...iterate(evaluate(rest, scope)));
  const values = new Map(named.map(([name, one]) => [name, evaluate(one, scope)] as const));
  const more = namedRest === undefined ? new Map() : evaluate(namedRest, scope);
  if (!(more instanceof Map)) {
    throw new TypeError(`argument after ** must be a mapping, not ${typeName(more)}`);
  }
  for (const [name, value] of more) values.set(str(name), value);
  return { args, named: values };
}
