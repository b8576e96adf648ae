/** Python's two ways to put values into a text: `%` and `str.format`, as far as templates go. */

import { repr, str } from "./show.ts";
import { defined, isNumber, type Named, Tuple, typeName, Undefined, type Value } from "./values.ts";

/** `text % values`. @throws {TypeError} where values and conversions do not match */
export function formatPercent(text: string, values: Value): string {
  const list = values instanceof Tuple ? [...values] : [values];
  let used = 0;
  const take = (): Value => {
    const value = list[used++];
    if (value === undefined) throw new TypeError("not enough arguments for format string");
    return value;
  };
  const formatted = text.replace(
    /%(?:\((\w+)\))?([-+ 0#]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])/g,
    (_, key, flags, width, precision, type) => {
      if (type === "%") return "%";
      const value = key === undefined ? take() : keyed(values, key);
      return padded(converted(value, type, precision), flags, Number(width ?? 0));
    },
  );
  // What has items (a dict, but a list too) may have more of them than are named.
  const hasItems = values instanceof Map || values instanceof Undefined ||
    (Array.isArray(values) && !(values instanceof Tuple));
  if (used < list.length && !hasItems) {
    throw new TypeError("not all arguments converted during string formatting");
  }
  return formatted;
}

function keyed(values: Value, key: string): Value {
  if (!(values instanceof Map)) throw new TypeError("format requires a mapping");
  const value = values.get(key);
  if (value === undefined) throw new TypeError(`'${key}'`);
  return value;
}

function converted(value: Value, type: string, precision: string | undefined): string {
  switch (type) {
    case "s":
      return cut(str(value), precision);
    case "r":
      return cut(repr(value), precision);
    case "d":
    case "i":
    case "u":
      return wholePart(value).toString();
    case "x":
      return wholePart(value).toString(16);
    case "X":
      return wholePart(value).toString(16).toUpperCase();
    case "f":
    case "F":
      return asNumber(value).toFixed(Number(precision ?? 6));
    default:
      throw new TypeError(`unsupported format character '${type}'`);
  }
}

function padded(text: string, flags: string, width: number): string {
  const signed = flags.includes("+") && /^\d/.test(text) ? `+${text}` : text;
  if (flags.includes("-")) return signed.padEnd(width);
  if (!flags.includes("0")) return signed.padStart(width);
  const sign = /^[-+]/.exec(signed)?.[0] ?? "";
  return sign + signed.slice(sign.length).padStart(width - sign.length, "0");
}

function cut(text: string, precision: string | undefined): string {
  return precision === undefined ? text : [...text].slice(0, Number(precision)).join("");
}

function asNumber(value: Value): number {
  if (isNumber(value)) return Number(value);
  throw new TypeError(`must be real number, not ${typeName(value)}`);
}

function wholePart(value: Value): bigint {
  if (typeof value === "bigint") return value;
  if (isNumber(value)) return BigInt(Math.trunc(Number(value)));
  throw new TypeError(`%d format: a real number is required, not ${typeName(value)}`);
}

/** `text.format(*args, **named)`: fields by place or name, `!r`, width, alignment and precision. */
export function formatBraces(text: string, args: readonly Value[], named: Named): string {
  let next = 0;
  return text.replace(
    /\{\{|\}\}|\{(\w*)(?:!([rs]))?(?::([^{}]*))?\}/g,
    (whole, name: string | undefined, conversion: string | undefined, spec = "") => {
      if (whole === "{{") return "{";
      if (whole === "}}") return "}";
      const key = name === undefined || name === "" ? String(next++) : name;
      const value = /^\d+$/.test(key) ? args[Number(key)] : named.get(key);
      if (value === undefined) {
        throw new RangeError(
          /^\d+$/.test(key)
            ? `Replacement index ${key} out of range for positional args tuple`
            : `'${key}'`,
        );
      }
      return specified(conversion === "r" ? repr(value) : defined(value), spec);
    },
  );
}

function specified(value: Value, spec: string): string {
  const match = /^(?:(.)?([<>^]))?(0)?(\d+)?(,)?(?:\.(\d+))?([sdfF%])?$/u.exec(spec);
  if (match === null) throw new RangeError(`Invalid format specifier '${spec}'`);
  const [, fill, side, zero, width = "0", comma, precision, type] = match;
  const text = withType(value, type, precision, comma !== undefined);
  const room = Number(width) - [...text].length;
  if (room <= 0) return text;
  const filler = fill ?? (zero === undefined ? " " : "0");
  const place = side ?? (isNumber(value) ? ">" : "<");
  const left = place === ">" ? room : place === "<" ? 0 : Math.floor(room / 2);
  return filler.repeat(left) + text + filler.repeat(room - left);
}

function withType(
  value: Value,
  type: string | undefined,
  precision: string | undefined,
  commas: boolean,
): string {
  const grouped = (text: string): string =>
    commas ? text.replace(/^(-?\d+)/, (all) => all.replace(/\B(?=(\d{3})+$)/g, ",")) : text;
  switch (type) {
    case "f":
    case "F":
      return grouped(asNumber(value).toFixed(Number(precision ?? 6)));
    case "%":
      return `${(asNumber(value) * 100).toFixed(Number(precision ?? 6))}%`;
    case "d":
      return grouped(wholePart(value).toString());
    default:
      return isNumber(value) ? grouped(str(value)) : cut(str(value), precision);
  }
}
