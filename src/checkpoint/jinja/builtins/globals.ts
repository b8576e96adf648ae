/** What every template can call: Jinja's globals, and those that transformers adds. */

import { Bound } from "../arguments.ts";
import { Scope } from "../evaluate.ts";
import { str } from "../python/show.ts";
import {
  Callable,
  iterate,
  type Named,
  Namespace,
  typeName,
  type Value,
  view,
} from "../python/values.ts";

/** As Jinja's sandbox has it. */
const MAX_RANGE = 100_000;

/** @param strftime the time now, in a format */
export function globalScope(strftime: (format: string) => string): Scope {
  const scope = new Scope();
  const define = (name: string, call: (args: readonly Value[], named: Named) => Value): void =>
    scope.set(name, new Callable(name, call));
  define("range", range);
  define("dict", (args, named) => entriesOf(args, named));
  define("namespace", (args, named) => {
    const made = new Namespace();
    for (const [name, value] of entriesOf(args, named)) made.values.set(str(name), value);
    return made;
  });
  define("raise_exception", ([message]) => {
    throw new TypeError(str(message ?? null));
  });
  define(
    "strftime_now",
    (args, named) => strftime(new Bound("strftime_now", ["format"], args, named).text("format")),
  );
  return scope;
}

function range(args: readonly Value[]): Value {
  const [first, second, third] = args.map((value) => {
    if (typeof value === "bigint" || typeof value === "boolean") return Number(value);
    throw new TypeError(`'${typeName(value)}' object cannot be interpreted as an integer`);
  });
  if (first === undefined) throw new TypeError("range expected at least 1 argument, got 0");
  const [start, stop, step] = second === undefined ? [0, first, 1] : [first, second, third ?? 1];
  if (step === 0) throw new RangeError("range() arg 3 must not be zero");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > MAX_RANGE) {
    throw new RangeError(
      `Range too big. The sandbox blocks ranges larger than MAX_RANGE (${MAX_RANGE}).`,
    );
  }
  const items = Array.from({ length }, (_, i) => BigInt(start + i * step));
  const shown = step === 1 ? `range(${start}, ${stop})` : `range(${start}, ${stop}, ${step})`;
  return view(items, () => shown);
}

/** A dict's entries, or pairs, and named ones. */
function entriesOf([from]: readonly Value[], named: Named): Map<Value, Value> {
  const own: Iterable<readonly [Value, Value]> = from instanceof Map
    ? from
    : iterate(from ?? []).map((pair) => {
      const [key = null, value = null] = iterate(pair);
      return [key, value] as const;
    });
  return new Map<Value, Value>([...own, ...named]);
}
