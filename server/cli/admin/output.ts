/** What the command prints: tables for people, or the server's JSON. It knows no endpoint. */
import { formatBytes } from "../../../src/util/bytes.ts";
import type { Shown } from "./api.ts";

/** What a command has to say, in both forms. */
export interface Output {
  readonly json: unknown;
  readonly text: string;
}

/** A column's heading and how an item shows in it. */
export type Column = readonly [heading: string, show: (item: Shown) => string];

/** Columns of equal width, the last one ragged; a word where there is nothing. */
export function table(items: readonly Shown[], columns: readonly Column[]): string {
  if (items.length === 0) return "none";
  const rows = [
    columns.map(([heading]) => heading),
    ...items.map((item) => columns.map(([, show]) => show(item))),
  ];
  const widths = columns.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ").trimEnd())
    .join("\n");
}

/** A field as it is; `-` where it is absent. */
export function field(name: string): Column {
  return [name.replaceAll("_", " "), (item) => plain(item[name])];
}

/** Unix seconds as a date and time, UTC. */
export function time(name: string): Column {
  return [
    name.replace(/_at$/, "").replaceAll("_", " "),
    (item) => {
      const value = item[name];
      if (typeof value !== "number") return "-";
      return new Date(1000 * value).toISOString().slice(0, 16).replace("T", " ");
    },
  ];
}

export function bytes(name: string): Column {
  return [name.replaceAll("_", " "), (item) => formatBytes(Number(item[name] ?? 0))];
}

function plain(value: unknown): string {
  if (value === null || value === undefined || value === "") return "-";
  return Array.isArray(value) ? value.join(",") : String(value);
}
