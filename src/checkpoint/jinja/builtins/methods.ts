/** The methods of Python's str, dict, list, int and float that a sandboxed template may call. */

import { Bound, type Built, built } from "../arguments.ts";
import { formatBraces } from "../python/format.ts";
import { repr } from "../python/show.ts";
import {
  capitalize,
  center,
  type Ends,
  lines,
  replace,
  split,
  splitFromRight,
  strip,
  title,
} from "../python/texts.ts";
import {
  Callable,
  defined,
  type Dict,
  equal,
  iterate,
  orElse,
  tuple,
  typeName,
  type Value,
  view,
} from "../python/values.ts";

const stripping = (name: string, ends: Ends) =>
  built<string>(name, "chars", (of, args) => strip(of, ends, args.optionalText("chars")));

/** True for a text that is not empty and is of these characters alone. */
const all = (name: string, pattern: RegExp) => built<string>(name, "", (of) => pattern.test(of));

const searching = (name: string, run: (of: string, sub: string) => number) =>
  built<string>(name, "sub", (of, args) => BigInt(run(of, args.text("sub"))));

/** Positions in code points. */
function find(of: string, sub: string): number {
  const at = of.indexOf(sub);
  return at < 0 ? at : [...of.slice(0, at)].length;
}

function findLast(of: string, sub: string): number {
  const at = of.lastIndexOf(sub);
  return at < 0 ? at : [...of.slice(0, at)].length;
}

function found(at: number): number {
  if (at >= 0) return at;
  throw new RangeError("substring not found");
}

const beginning = (name: string, matches: (of: string, part: string) => boolean) =>
  built<string>(name, "prefix", (of, args) => {
    const part = args.get("prefix");
    return (Array.isArray(part) ? part : [part]).some((one) => {
      if (typeof one === "string") return matches(of, one);
      throw new TypeError(
        `${name} first arg must be str or a tuple of str, not ${typeName(defined(one))}`,
      );
    });
  });

const padding = (name: string, left: (room: number) => number) =>
  built<string>(name, "width fillchar", (of, args) => {
    const room = Math.max(0, args.count("width") - [...of].length);
    const fill = args.text("fillchar", " ");
    return fill.repeat(left(room)) + of + fill.repeat(room - left(room));
  });

const parting = (name: string, at: (of: string, sep: string) => number, last: boolean) =>
  built<string>(name, "sep", (of, args) => {
    const sep = args.text("sep");
    const cut = at(of, sep);
    if (cut < 0) return last ? tuple("", "", of) : tuple(of, "", "");
    return tuple(of.slice(0, cut), sep, of.slice(cut + sep.length));
  });

const TEXT: ReadonlyMap<string, Built<string>> = new Map([
  built("upper", "", (of) => of.toUpperCase()),
  built("lower", "", (of) => of.toLowerCase()),
  built("casefold", "", (of) => of.toLowerCase().replaceAll("ß", "ss")),
  built("capitalize", "", capitalize),
  built("title", "", title),
  built(
    "swapcase",
    "",
    (of) =>
      [...of].map((one) => one === one.toUpperCase() ? one.toLowerCase() : one.toUpperCase())
        .join(""),
  ),
  stripping("strip", "both"),
  stripping("lstrip", "left"),
  stripping("rstrip", "right"),
  beginning("startswith", (of, part) => of.startsWith(part)),
  beginning("endswith", (of, part) => of.endsWith(part)),
  built("removeprefix", "prefix", (of, args) => {
    const prefix = args.text("prefix");
    return of.startsWith(prefix) ? of.slice(prefix.length) : of;
  }),
  built("removesuffix", "suffix", (of, args) => {
    const suffix = args.text("suffix");
    return suffix !== "" && of.endsWith(suffix) ? of.slice(0, -suffix.length) : of;
  }),
  built(
    "split",
    "sep maxsplit",
    (of, args) => split(of, args.optionalText("sep"), args.count("maxsplit", -1)),
  ),
  built(
    "rsplit",
    "sep maxsplit",
    (of, args) => splitFromRight(of, args.optionalText("sep"), args.count("maxsplit", -1)),
  ),
  built("splitlines", "keepends", (of, args) => lines(of, args.optional("keepends") === true)),
  parting("partition", (of, sep) => of.indexOf(sep), false),
  parting("rpartition", (of, sep) => of.lastIndexOf(sep), true),
  built(
    "replace",
    "old new count",
    (of, args) => replace(of, args.text("old"), args.text("new"), args.optionalCount("count")),
  ),
  built("join", "iterable", (of, args) =>
    iterate(args.get("iterable")).map((one, i) => {
      if (typeof one === "string") {
        return one;
      }
      throw new TypeError(`sequence item ${i}: expected str instance, ${typeName(one)} found`);
    }).join(of)),
  searching("find", find),
  searching("rfind", findLast),
  searching("index", (of, sub) => found(find(of, sub))),
  searching("rindex", (of, sub) => found(findLast(of, sub))),
  searching("count", (of, sub) => sub === "" ? [...of].length + 1 : of.split(sub).length - 1),
  padding("ljust", () => 0),
  padding("rjust", (room) => room),
  built(
    "center",
    "width fillchar",
    (of, args) => center(of, args.count("width"), args.text("fillchar", " ")),
  ),
  built("zfill", "width", (of, args) => {
    const sign = /^[-+]/.exec(of)?.[0] ?? "";
    return sign + of.slice(sign.length).padStart(args.count("width") - sign.length, "0");
  }),
  all("isalpha", /^\p{L}+$/u),
  all("isdigit", /^[\p{Nd}\u00b2\u00b3\u00b9\u2070-\u2079\u2080-\u2089]+$/u),
  all("isdecimal", /^\p{Nd}+$/u),
  all("isnumeric", /^\p{N}+$/u),
  all("isalnum", /^[\p{L}\p{N}]+$/u),
  all("isascii", /^\p{ASCII}*$/u),
  built("isspace", "", (of) => of !== "" && strip(of, "both", undefined) === ""),
  built("isupper", "", (of) => of === of.toUpperCase() && of !== of.toLowerCase()),
  built("islower", "", (of) => of === of.toLowerCase() && of !== of.toUpperCase()),
  built("istitle", "", (of) => of === title(of) && of !== of.toLowerCase()),
]);

const DICT: ReadonlyMap<string, Built<Dict>> = new Map([
  built(
    "get",
    "key default",
    (of, args) => orElse(of.get(args.get("key")), args.given("default", null)),
  ),
  built(
    "items",
    "",
    (of) =>
      view([...of].map(([key, value]) => tuple(key, value)), (items) => `dict_items(${items})`),
  ),
  built("keys", "", (of) => view([...of.keys()], (items) => `dict_keys(${items})`)),
  built("values", "", (of) => view([...of.values()], (items) => `dict_values(${items})`)),
  built("copy", "", (of) => new Map(of)),
]);

const LIST: ReadonlyMap<string, Built<Value[]>> = new Map([
  built("index", "value", (of, args) => {
    const value = args.get("value");
    const at = of.findIndex((one) => equal(one, value));
    if (at >= 0) return BigInt(at);
    throw new RangeError(`${repr(value)} is not in list`);
  }),
  built("count", "value", (of, args) => {
    const value = args.get("value");
    return BigInt(of.filter((one) => equal(one, value)).length);
  }),
  built("copy", "", (of) => [...of]),
]);

/** What would change a list or a dict, which transformers' sandbox forbids. */
const CHANGING: ReadonlySet<string> = new Set(
  "append clear extend insert pop remove reverse sort popitem setdefault update".split(" "),
);

const NUMBER: ReadonlyMap<string, Built<bigint | number>> = new Map([
  built("is_integer", "", (of) => Number.isInteger(Number(of))),
]);

/**
 * A method of a value; undefined where it has none of the name.
 *
 * @throws {TypeError} for a method that changes what it is called on
 */
export function methodOf(of: Value, name: string): Callable | undefined {
  if (typeof of === "string") return bind(TEXT, of, name);
  if (typeof of === "bigint" || typeof of === "number") return bind(NUMBER, of, name);
  if (!(of instanceof Map) && !Array.isArray(of)) return undefined;
  const isTuple = typeName(of) === "tuple";
  if (CHANGING.has(name) && !isTuple) {
    const known = of instanceof Map
      ? !"append extend insert remove reverse sort".includes(name)
      : !"popitem setdefault update".includes(name);
    if (known) {
      throw new TypeError(`access to attribute '${name}' of '${typeName(of)}' object is unsafe.`);
    }
  }
  return of instanceof Map ? bind(DICT, of, name) : bind(LIST, of, name);
}

function bind<T>(table: ReadonlyMap<string, Built<T>>, of: T, name: string): Callable | undefined {
  const method = table.get(name);
  if (method === undefined) {
    return name === "format" && typeof of === "string"
      ? new Callable(name, (args, named) => formatBraces(of, args, named))
      : undefined;
  }
  return new Callable(
    name,
    (args, named) => method.run(of, new Bound(name, method.parameters, args, named)),
  );
}
