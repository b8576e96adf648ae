/** How Python prints values: `str`, `repr`, and `json.dumps` as transformers' `tojson` calls it. */

import {
  Callable,
  isNumber,
  Namespace,
  Tuple,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.ts";

/** Python's `str(value)`; nothing for what is not there. */
export function str(value: Value): string {
  if (typeof value === "string") return value;
  return value instanceof Undefined ? "" : repr(value);
}

/** Python's `repr(value)`. */
export function repr(value: Value): string {
  if (value === null) return "None";
  switch (typeof value) {
    case "boolean":
      return value ? "True" : "False";
    case "bigint":
      return value.toString();
    case "number":
      return floatText(value);
    case "string":
      return quoted(value);
  }
  if (value instanceof Undefined) return "Undefined";
  if (value instanceof Map) return `{${entriesText(value)}}`;
  if (value instanceof Namespace) return `<Namespace {${entriesText(value.values)}}>`;
  if (value instanceof Callable) return `<function ${value.name}>`;
  const items = value.map(repr);
  if (value instanceof Tuple) {
    return items.length === 1 ? `(${items[0]},)` : `(${items.join(", ")})`;
  }
  const list = `[${items.join(", ")}]`;
  return value instanceof View ? value.shown(list) : list;
}

function entriesText(entries: ReadonlyMap<Value, Value>): string {
  return [...entries].map(([key, value]) => `${repr(key)}: ${repr(value)}`).join(", ");
}

/** The shortest digits that give the number back, with Python's choice of exponents. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Object.is(value, -0)) return "-0.0";
  const [mantissa = "", exponentText = "0"] = value.toExponential().split("e");
  const exponent = Number(exponentText);
  if (exponent >= -4 && exponent < 16) {
    // JavaScript writes exponents below -6 and from 21 up only.
    const text = String(value);
    return Number.isInteger(value) ? `${text}.0` : text;
  }
  const sign = exponent < 0 ? "-" : "+";
  return `${mantissa}e${sign}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ["\\", "\\\\"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
]);

/** A text in Python's quotes; what cannot be printed is escaped. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inner = text.replace(/[\\'\n\r\t]|[\p{C}\p{Z}]/gu, (character) => {
    if (character === " ") return character;
    if (character === "'") return quote === "'" ? "\\'" : "'";
    return ESCAPES.get(character) ?? escaped(character.codePointAt(0) ?? 0);
  });
  return quote + inner + quote;
}

function escaped(point: number): string {
  const hex = point.toString(16);
  if (point <= 0xff) return `\\x${hex.padStart(2, "0")}`;
  return point <= 0xffff ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}

/** The arguments of transformers' `tojson`. */
export interface JsonStyle {
  readonly asciiOnly: boolean;
  /** What each level is indented by; undefined for one line. */
  readonly indent: string | undefined;
  /** Between items, and between a key and its value. */
  readonly separators: readonly [string, string] | undefined;
  readonly sortKeys: boolean;
}

/** Python's `json.dumps`. @throws {TypeError} for what JSON cannot hold */
export function json(value: Value, style: JsonStyle): string {
  const { indent, separators = [indent === undefined ? ", " : ",", ": "] } = style;
  return write(value, { ...style, separators }, "\n");
}

type Style = JsonStyle & { readonly separators: readonly [string, string] };

function write(value: Value, style: Style, line: string): string {
  if (value === null) return "null";
  if (typeof value === "boolean" || typeof value === "bigint") return String(value);
  if (typeof value === "number") return jsonFloat(value);
  if (typeof value === "string") return jsonText(value, style.asciiOnly);
  const inner = line + (style.indent ?? "");
  if (value instanceof Map) {
    const entries = [...value].map(([key, item]) => [keyText(key), item] as const);
    if (style.sortKeys) entries.sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0);
    const items = entries.map(([key, item]) =>
      jsonText(key, style.asciiOnly) + style.separators[1] + write(item, style, inner)
    );
    return wrapped("{", items, "}", style, line);
  }
  if (Array.isArray(value) && !(value instanceof View)) {
    return wrapped("[", value.map((item) => write(item, style, inner)), "]", style, line);
  }
  throw new TypeError(`Object of type ${typeName(value)} is not JSON serializable`);
}

function wrapped(
  open: string,
  items: readonly string[],
  close: string,
  { indent, separators: [comma] }: Style,
  line: string,
): string {
  if (items.length === 0) return open + close;
  if (indent === undefined) return open + items.join(comma) + close;
  const inner = line + indent;
  return open + inner + items.join(comma + inner) + line + close;
}

function keyText(key: Value): string {
  if (typeof key === "string") return key;
  if (typeof key === "number") return jsonFloat(key);
  if (key === null) return "null";
  if (isNumber(key)) return String(key);
  throw new TypeError(
    `keys must be str, int, float, bool or None, not ${typeName(key)}`,
  );
}

function jsonFloat(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "Infinity" : "-Infinity";
  return floatText(value);
}

/** JSON.stringify escapes half a surrogate pair, which Python leaves alone. */
function jsonText(text: string, asciiOnly: boolean): string {
  const plain = JSON.stringify(text)
    .replace(
      /(?<!\\)((?:\\\\)*)\\u(d[89a-f][0-9a-f]{2})/g,
      (_, before: string, hex: string) => before + String.fromCharCode(parseInt(hex, 16)),
    );
  if (!asciiOnly) return plain;
  return plain.replace(
    /[\x7f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
