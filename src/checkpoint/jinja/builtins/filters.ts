/** Jinja's filters, with transformers' `tojson`, over texts, numbers and single values. */

import { Bound, type Built, built } from "../arguments.ts";
import { formatPercent } from "../python/format.ts";
import { listFilters } from "./list_filters.ts";
import { methodOf } from "./methods.ts";
import { json, str } from "../python/show.ts";
import { capitalize, center, lines, replace, strip } from "../python/texts.ts";
import {
  defined,
  isNumber,
  length,
  type Named,
  plainNumber,
  truth,
  Tuple,
  tuple,
  typeName,
  Undefined,
  type Value,
} from "../python/values.ts";

const WORD_START = /([-\s({[<]+)/;

function title(text: string): string {
  return text.split(WORD_START).map(capitalize).join("");
}

function indent(of: Value, args: Bound): string {
  if (typeof of !== "string") {
    throw new TypeError(`can only concatenate str to str, not "${typeName(defined(of))}"`);
  }
  const width = args.given("width", 4n);
  const by = typeof width === "string" ? width : " ".repeat(Number(width));
  const blank = args.flag("blank");
  const [head = "", ...rest] = lines(`${str(of)}\n`);
  const indented = [head, ...rest.map((line) => line === "" && !blank ? line : by + line)];
  const text = indented.join("\n");
  return args.flag("first") ? by + text : text;
}

/** Python's `int(value)`, then of a float's text; the default where neither is. */
function toInt(of: Value, args: Bound): Value {
  const base = args.count("base", 10);
  if (typeof of === "string") {
    const text = strip(of, "both", undefined).replace(/(?<=\d)_(?=\d)/g, "");
    if (base === 10 && /^[-+]?\d+$/.test(text)) return BigInt(text.replace(/^\+/, ""));
    if (base !== 10) {
      const digits = text.replace(/^([-+]?)0[xob]/i, "$1");
      const value = parseInt(digits, base);
      if (/^[-+]?[0-9a-z]+$/i.test(digits) && !Number.isNaN(value)) return BigInt(value);
    }
  }
  const float = floatOf(of);
  return float !== undefined && Number.isFinite(float)
    ? BigInt(Math.trunc(float))
    : args.given("default", 0n);
}

function floatOf(of: Value): number | undefined {
  defined(of);
  if (isNumber(of)) return Number(of);
  if (typeof of !== "string") return undefined;
  const text = strip(of, "both", undefined).replace(/(?<=\d)_(?=\d)/g, "");
  if (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text)) return Number(text);
  const named = /^([-+]?)(inf(inity)?|nan)$/i.exec(text);
  if (named === null) return undefined;
  return named[2]?.toLowerCase() === "nan" ? NaN : named[1] === "-" ? -Infinity : Infinity;
}

function round(of: Value, args: Bound): Value {
  defined(of);
  if (!isNumber(of)) throw new TypeError(`type ${typeName(of)} doesn't define __round__ method`);
  const precision = args.count("precision", 0);
  const method = args.text("method", "common");
  if (!["common", "ceil", "floor"].includes(method)) {
    throw new TypeError("method must be common, ceil or floor");
  }
  if (method !== "common") {
    const scaled = Number(of) * 10 ** precision;
    return (method === "ceil" ? Math.ceil(scaled) : Math.floor(scaled)) / 10 ** precision;
  }
  const value = plainNumber(of);
  if (typeof value === "bigint") {
    return precision >= 0 ? value : BigInt(halfEven(Number(value), precision));
  }
  return halfEven(value, precision);
}

/** To the nearest, of two as near to the even one, as Python rounds. */
function halfEven(value: number, precision: number): number {
  if (!Number.isFinite(value)) return value;
  if (precision < 0) {
    const step = 10 ** -precision;
    return halfEven(value / step, 0) * step;
  }
  const places = Math.min(precision, 60);
  const rest = Math.abs(value).toFixed(places + 40).slice(-40);
  const rounded = Number(value.toFixed(places));
  if (rest !== `5${"0".repeat(39)}`) return rounded;
  const down = Number((Math.abs(value) - Number(`0.${"0".repeat(places)}5`)).toFixed(places));
  const isEven = Number(down.toFixed(places).replace(".", "").slice(-1)) % 2 === 0;
  return isEven ? Math.sign(value) * down : Math.sign(value) * Math.abs(rounded);
}

function truncate(of: Value, args: Bound): Value {
  const most = args.count("length", 255);
  const end = args.text("end", "...");
  if (length(of) <= most + args.count("leeway", 5)) return of;
  if (typeof of !== "string") {
    throw new TypeError(`can only concatenate ${typeName(of)} (not "str") to ${typeName(of)}`);
  }
  const text = [...of];
  const start = text.slice(0, most - [...end].length).join("");
  if (args.flag("killwords")) return start + end;
  const cut = start.lastIndexOf(" ");
  return (cut < 0 ? start : start.slice(0, cut)) + end;
}

function toJson(of: Value, args: Bound): string {
  const level = args.given("indent", null);
  const separators = args.given("separators", null);
  const [item, key] = Array.isArray(separators) ? separators : [];
  if (of instanceof Undefined) {
    throw new TypeError("Object of type Undefined is not JSON serializable");
  }
  return json(of, {
    asciiOnly: args.flag("ensure_ascii"),
    sortKeys: args.flag("sort_keys"),
    indent: level === null
      ? undefined
      : typeof level === "string"
      ? level
      : " ".repeat(Math.max(0, Number(level))),
    separators: typeof item === "string" && typeof key === "string" ? [item, key] : undefined,
  });
}

const HTML: ReadonlyMap<string, string> = new Map([
  ["&", "&amp;"],
  ["<", "&lt;"],
  [">", "&gt;"],
  ["'", "&#39;"],
  ['"', "&#34;"],
]);

function escape(of: Value): string {
  return str(of).replace(/[&<>'"]/g, (character) => HTML.get(character) ?? character);
}

function urlEncode(of: Value): string {
  const quote = (value: Value, safe: RegExp): string =>
    encodeURIComponent(str(value)).replace(
      /[!'()*]/g,
      (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`,
    ).replace(safe, "/");
  if (typeof of === "string" || isNumber(of)) return quote(of, /%2F/g);
  const pairs = of instanceof Map ? [...of].map(([key, value]) => tuple(key, value)) : of;
  return (Array.isArray(pairs) ? pairs : []).map((pair) => {
    const [key = "", value = ""] = pair instanceof Tuple ? pair : [];
    return `${quote(key, /$^/g)}=${quote(value, /$^/g)}`;
  }).join("&").replaceAll("%20", "+");
}

function orDefault(of: Value, args: Bound): Value {
  const missing = of instanceof Undefined ||
    (args.flag("boolean") && !truth(of));
  return missing ? args.given("default_value", "") : of;
}

const FILTERS: ReadonlyMap<string, Built<Value>> = new Map([
  ...listFilters(runFilter),
  built("abs", "", (of) => {
    if (!isNumber(of)) {
      throw new TypeError(`bad operand type for abs(): '${typeName(defined(of))}'`);
    }
    const value = plainNumber(of);
    return value < 0 ? -value : value;
  }),
  built("attr", "name", (of, args) => {
    const name = args.text("name");
    return methodOf(of, name) ??
      new Undefined(`'${typeName(of)} object' has no attribute '${name}'`);
  }),
  built("capitalize", "", (of) => capitalize(str(of))),
  built("center", "width", (of, args) => {
    const text = str(of);
    return center(text, args.count("width", 80), " ");
  }),
  ...["default", "d"].map((name) => built(name, "default_value boolean", orDefault)),
  ...["escape", "e", "forceescape"].map((name) => built<Value>(name, "", escape)),
  built("float", "default", (of, args) => floatOf(of) ?? args.given("default", 0)),
  built("indent", "width first blank", indent),
  built("int", "default base", toInt),
  ...["length", "count"].map((name) => built<Value>(name, "", (of) => BigInt(length(of)))),
  built("lower", "", (of) => str(of).toLowerCase()),
  built(
    "replace",
    "old new count",
    (of, args) =>
      replace(str(of), str(args.get("old")), str(args.get("new")), args.optionalCount("count")),
  ),
  built("round", "precision method", round),
  built("safe", "", str),
  built("string", "", str),
  built(
    "striptags",
    "",
    (of) =>
      str(of).replace(/<!--[\s\S]*?-->|<[^>]*>/g, "").split(/\s+/).filter((one) => one !== "")
        .join(" "),
  ),
  built("title", "", (of) => title(str(of))),
  built("tojson", "ensure_ascii indent separators sort_keys", toJson),
  built("trim", "chars", (of, args) => strip(str(of), "both", args.optionalText("chars"))),
  built("truncate", "length killwords end leeway", truncate),
  built("upper", "", (of) => str(of).toUpperCase()),
  built("urlencode", "", urlEncode),
  built("wordcount", "", (of) => BigInt(str(of).match(/[\p{L}\p{N}\p{M}_]+/gu)?.length ?? 0)),
]);

/** @throws {TypeError} for a filter that is not known, or a value that it cannot be used on */
export function runFilter(
  name: string,
  of: Value,
  args: readonly Value[],
  named: Named = new Map(),
): Value {
  if (name === "format") {
    return formatPercent(str(of), named.size > 0 ? new Map(named) : tuple(...args));
  }
  const filter = FILTERS.get(name);
  if (filter === undefined) throw new TypeError(`No filter named '${name}'.`);
  if (name === "map" || /^(select|reject)/.test(name)) {
    // What follows the first argument is for the filter or test that it names.
    return filter.run(
      of,
      new Bound(name, ["args", "named"], [[...args], new Map(named)], new Map()),
    );
  }
  return filter.run(of, new Bound(name, filter.parameters, args, named));
}
