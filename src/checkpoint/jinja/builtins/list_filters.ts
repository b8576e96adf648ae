/** Jinja's filters over lists and dicts. */

import { type Bound, type Built, built } from "../arguments.ts";
import { methodOf } from "./methods.ts";
import { binary, itemOf } from "../operators.ts";
import { str } from "../python/show.ts";
import { runTest } from "./tests.ts";
import {
  type Dict,
  equal,
  iterate,
  type Named,
  Namespace,
  order,
  orElse,
  truth,
  tuple,
  typeName,
  Undefined,
  type Value,
} from "../python/values.ts";

type RunFilter = (name: string, of: Value, args: readonly Value[], named?: Named) => Value;

/** Jinja's `environment.getattr`, of a dict's key or a method. */
export function attributeOf(of: Value, name: string): Value {
  if (of instanceof Undefined) throw new TypeError(of.hint);
  if (of instanceof Namespace) {
    const own = of.values.get(name);
    if (own !== undefined) return own;
  }
  return methodOf(of, name) ?? orElse(itemOf(of, name), missing(of, name));
}

/** Jinja's `environment.getitem`: the item first, then an attribute of the name. */
export function memberOf(of: Value, index: Value): Value {
  if (of instanceof Undefined) throw new TypeError(of.hint);
  const item = itemOf(of, index);
  if (item !== undefined) return item;
  if (of instanceof Namespace && typeof index === "string") return attributeOf(of, index);
  if (typeof index === "string") return methodOf(of, index) ?? missing(of, index);
  return new Undefined(`${objectName(of)} has no element ${str(index)}`);
}

function missing(of: Value, name: string): Undefined {
  return new Undefined(`'${objectName(of)}' has no attribute '${name}'`);
}

function objectName(of: Value): string {
  return of === null ? "None" : `${typeName(of)} object`;
}

/** By a path such as `function.name` or `0.id`; the value itself without one. */
function getter(path: Value | undefined, fallback?: Value): (item: Value) => Value {
  if (path === undefined || path === null) return (item) => item;
  const parts = str(path).split(".").map((part) => /^\d+$/.test(part) ? BigInt(part) : part);
  return (item) =>
    parts.reduce((of: Value, part) => {
      const value = of instanceof Undefined && fallback !== undefined ? of : memberOf(of, part);
      return value instanceof Undefined && fallback !== undefined ? fallback : value;
    }, item);
}

/** Jinja ignores case unless it is told not to. */
function sortKey(args: Bound): (item: Value) => Value {
  const get = getter(args.optional("attribute"));
  const exact = args.flag("case_sensitive");
  return (item) => {
    const key = get(item);
    return typeof key === "string" && !exact ? key.toLowerCase() : key;
  };
}

function sorted(items: readonly Value[], key: (item: Value) => Value, args: Bound): Value[] {
  const direction = args.flag("reverse") ? -1 : 1;
  return items.map((item) => [key(item), item] as const)
    .sort(([a], [b]) => direction * order(a, b)).map(([, item]) => item);
}

function extreme(of: Value, args: Bound, sign: 1 | -1): Value {
  const key = sortKey(args);
  const items = iterate(of);
  const [first] = items;
  if (first === undefined) return new Undefined("No aggregated item, sequence was empty.");
  return items.reduce((best, item) => sign * order(key(item), key(best)) > 0 ? item : best, first);
}

function unique(of: Value, args: Bound): Value[] {
  const key = sortKey(args);
  const seen: Value[] = [];
  return iterate(of).filter((item) => {
    const own = key(item);
    if (seen.some((one) => equal(one, own))) return false;
    seen.push(own);
    return true;
  });
}

function grouped(of: Value, args: Bound): Value[] {
  const get = getter(args.get("attribute"), args.optional("default"));
  const key = sortKey(args);
  const groups: { readonly key: Value; readonly name: Value; readonly items: Value[] }[] = [];
  for (const item of sorted(iterate(of), key, args)) {
    const own = key(item);
    const last = groups.at(-1);
    if (last !== undefined && equal(last.key, own)) last.items.push(item);
    else groups.push({ key: own, name: get(item), items: [item] });
  }
  return groups.map(({ name, items }) => tuple(name, items));
}

function batched(of: Value, args: Bound): Value[] {
  const count = args.count("linecount");
  const items = iterate(of);
  const fill = args.given("fill_with", null);
  return Array.from({ length: Math.ceil(items.length / count) }, (_, i) => {
    const row = items.slice(i * count, (i + 1) * count);
    const missing = fill === null ? 0 : count - row.length;
    return [...row, ...Array.from({ length: missing }, () => fill)];
  });
}

function sliced(of: Value, args: Bound): Value[] {
  const count = args.count("slices");
  const items = iterate(of);
  const fill = args.given("fill_with", null);
  const [base, longer] = [Math.floor(items.length / count), items.length % count];
  let at = 0;
  return Array.from({ length: count }, (_, i) => {
    const size = base + (i < longer ? 1 : 0);
    const row = items.slice(at, at += size);
    return fill !== null && longer > 0 && i >= longer ? [...row, fill] : [...row];
  });
}

function dictSorted(of: Value, args: Bound): Value[] {
  if (!(of instanceof Map)) throw new TypeError(`'${typeName(of)}' object has no items`);
  const place = args.text("by", "key") === "value" ? 1 : 0;
  const exact = args.flag("case_sensitive");
  const key = (item: Value): Value => {
    const own = Array.isArray(item) ? item[place] ?? null : item;
    return typeof own === "string" && !exact ? own.toLowerCase() : own;
  };
  return sorted([...of].map(([name, value]) => tuple(name, value)), key, args);
}

/** `select` and its like: by a test, of the items or of an attribute. */
function chosen(of: Value, args: Bound, wanted: boolean, byAttribute: boolean): Value[] {
  const rest = [...iterate(args.get("args"))];
  const get = byAttribute ? getter(rest.shift()) : getter(undefined);
  const test = rest.shift();
  const passes = (item: Value): boolean =>
    test === undefined ? truth(get(item)) : runTest(str(test), get(item), rest);
  return itemsOf(of).filter((item) => passes(item) === wanted);
}

/** None, zero and their like have no items here. */
function itemsOf(of: Value): readonly Value[] {
  return truth(of) ? iterate(of) : [];
}

function mapped(of: Value, args: Bound, run: RunFilter): Value[] {
  const [name, ...rest] = iterate(args.get("args"));
  const named = args.get("named") as Dict;
  const attribute = named.get("attribute");
  if (name === undefined && attribute !== undefined) {
    return itemsOf(of).map(getter(attribute, named.get("default")));
  }
  if (name === undefined) throw new TypeError("map requires a filter argument");
  const texts = new Map([...named].map(([key, value]) => [str(key), value] as const));
  return itemsOf(of).map((item) => run(str(name), item, rest, texts));
}

/** The table's part for lists. @param run runs a filter by its name */
export function listFilters(run: RunFilter): readonly (readonly [string, Built<Value>])[] {
  return [
    built("batch", "linecount fill_with", batched),
    built("slice", "slices fill_with", sliced),
    built("dictsort", "case_sensitive by reverse", dictSorted),
    built(
      "first",
      "",
      (of) => orElse(iterate(of)[0], new Undefined("No first item, sequence was empty.")),
    ),
    built(
      "last",
      "",
      (of) => orElse(iterate(of).at(-1), new Undefined("No last item, sequence was empty.")),
    ),
    built("groupby", "attribute default case_sensitive", grouped),
    built("items", "", (of) => {
      if (of instanceof Undefined) return [];
      if (of instanceof Map) return [...of].map(([key, value]) => tuple(key, value));
      throw new TypeError("Can only get item pairs from a mapping.");
    }),
    built(
      "join",
      "d attribute",
      (of, args) =>
        iterate(of).map(getter(args.optional("attribute"))).map(str).join(
          str(args.given("d", "")),
        ),
    ),
    built("list", "", (of) => [...iterate(of)]),
    built("map", "args named", (of, args) => mapped(of, args, run)),
    built("max", "case_sensitive attribute", (of, args) => extreme(of, args, 1)),
    built("min", "case_sensitive attribute", (of, args) => extreme(of, args, -1)),
    built(
      "reverse",
      "",
      (of) => typeof of === "string" ? [...of].reverse().join("") : [...iterate(of)].reverse(),
    ),
    built("select", "args named", (of, args) => chosen(of, args, true, false)),
    built("reject", "args named", (of, args) => chosen(of, args, false, false)),
    built("selectattr", "args named", (of, args) => chosen(of, args, true, true)),
    built("rejectattr", "args named", (of, args) => chosen(of, args, false, true)),
    built(
      "sort",
      "reverse case_sensitive attribute",
      (of, args) => sorted(iterate(of), sortKey(args), args),
    ),
    built(
      "sum",
      "attribute start",
      (of, args) =>
        iterate(of).map(getter(args.optional("attribute")))
          .reduce((sum, item) => binary("+", sum, item), args.given("start", 0n)),
    ),
    built("unique", "case_sensitive attribute", unique),
  ];
}
