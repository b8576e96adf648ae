/** Jinja's tests: what may stand after `is`, and in `select` and its like. */

import { Bound, type Built, built } from "../arguments.ts";
import type { Comparison } from "../nodes.ts";
import { compare } from "../operators.ts";
import { str } from "../python/show.ts";
import {
  Callable,
  defined,
  type Named,
  typeName,
  Undefined,
  type Value,
} from "../python/values.ts";

const comparing = (operator: Comparison, ...names: readonly string[]) =>
  names.map((name) =>
    built<Value>(name, "other", (of, args) => compare(operator, of, args.get("other")))
  );

const rest = (of: Value, divisor: bigint): bigint => {
  const value = defined(of);
  if (typeof value === "bigint" || typeof value === "boolean") return BigInt(value) % divisor;
  if (typeof value === "number" && Number.isInteger(value)) return BigInt(value) % divisor;
  if (typeof value === "number") return -1n;
  throw new TypeError(`unsupported operand type(s) for %: '${typeName(value)}' and 'int'`);
};

const TESTS: ReadonlyMap<string, Built<Value>> = new Map([
  ...comparing("==", "==", "eq", "equalto"),
  ...comparing("!=", "!=", "ne"),
  ...comparing("<", "<", "lt", "lessthan"),
  ...comparing("<=", "<=", "le"),
  ...comparing(">", ">", "gt", "greaterthan"),
  ...comparing(">=", ">=", "ge"),
  ...comparing("in", "in"),
  built("boolean", "", (of) => typeof of === "boolean"),
  built("callable", "", (of) => of instanceof Callable),
  built("defined", "", (of) => !(of instanceof Undefined)),
  built("undefined", "", (of) => of instanceof Undefined),
  built("divisibleby", "num", (of, args) => rest(of, BigInt(args.count("num"))) === 0n),
  built("even", "", (of) => rest(of, 2n) === 0n),
  built("odd", "", (of) => [1n, -1n].includes(rest(of, 2n)) && typeof of !== "number"),
  built("false", "", (of) => of === false),
  built("true", "", (of) => of === true),
  built("none", "", (of) => of === null),
  built("float", "", (of) => typeof of === "number"),
  built("integer", "", (of) => typeof of === "bigint"),
  built("number", "", (of) => ["bigint", "number", "boolean"].includes(typeof of)),
  built("string", "", (of) => typeof of === "string"),
  built("mapping", "", (of) => of instanceof Map),
  built(
    "iterable",
    "",
    (of) =>
      typeof of === "string" || Array.isArray(of) || of instanceof Map || of instanceof Undefined,
  ),
  built(
    "sequence",
    "",
    (of) =>
      typeof of === "string" || Array.isArray(of) || of instanceof Map || of instanceof Undefined,
  ),
  built(
    "lower",
    "",
    (of) => str(of) === str(of).toLowerCase() && str(of) !== str(of).toUpperCase(),
  ),
  built(
    "upper",
    "",
    (of) => str(of) === str(of).toUpperCase() && str(of) !== str(of).toLowerCase(),
  ),
  built("sameas", "other", (of, args) => Object.is(of, args.get("other"))),
]);

/** @throws {TypeError} for a test that is not known, or a value that it cannot be made on */
export function runTest(
  name: string,
  of: Value,
  args: readonly Value[],
  named: Named = new Map(),
): boolean {
  const test = TESTS.get(name);
  if (test === undefined) throw new TypeError(`No test named '${name}'.`);
  return test.run(of, new Bound(name, test.parameters, args, named)) === true;
}
