/**
 * What a command of `deno task admin` is, and what it prints: tables for people, or the server's
 * JSON.
 */
import { formatBytes } from "../../../src/util/bytes.ts";
import { FlagError, type ToldFlag } from "../flags.ts";
import type { ApiClient, Shown } from "../client.ts";

/** What a command has to say, in both forms. */
export interface Output {
  readonly json: unknown;
  readonly text: string;
}

/** What a command is run with. */
export interface Call {
  readonly api: ApiClient;
  /** What stood behind the command's name. */
  readonly words: readonly string[];
  /** A flag's value. */
  readonly value: (name: string) => string | undefined;
}

export interface AdminCommand {
  /** `keys create`. */
  readonly name: string;
  /** What stands behind it; in brackets what may be left out. */
  readonly words: readonly string[];
  readonly help: string;
  /** Its own flags; what a text may be the command says itself. */
  readonly flags: Readonly<Record<string, ToldFlag<string>>>;
  /** @throws {FlagError} for a word that cannot be; {TypeError} with the server's words */
  readonly run: (call: Call) => Promise<Output>;
}

/** @throws {FlagError} where a flag's words, several with commas, are not all of `known` */
export function checkWords(flag: string, text: string, known: readonly string[]): void {
  const wrong = text.split(",").map((word) => word.trim()).find((word) => !known.includes(word));
  if (wrong === undefined) return;
  const right = [known.slice(0, -1).join(", "), known.at(-1)].join(" or ");
  throw new FlagError(`Cannot use --${flag}: current value is '${wrong}', it must be ${right}.`);
}

/**
 * What a word of a command names on disk, opened or read.
 * @throws {TypeError} naming the path
 */
export async function named<T>(path: string, work: (path: string) => Promise<T>): Promise<T> {
  try {
    return await work(path);
  } catch (cause) {
    const reason = cause instanceof Deno.errors.NotFound
      ? "there is no such file"
      : cause instanceof Error
      ? cause.message
      : String(cause);
    throw new TypeError(`Cannot read '${path}': ${reason}`, { cause });
  }
}

/** A column's heading and how an item shows in it. */
export type Column = readonly [heading: string, show: (item: Shown) => string];

/** Rows with their columns in line; "none" where there is no row. */
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

/** Items of a page, the most that the server gives. */
const PAGE = 1000;

/** Every item of a list; `cursor` says what `after` is behind one. */
export function allOf(
  api: ApiClient,
  path: string,
  cursor: (item: Shown) => string,
): Promise<readonly Shown[]> {
  return Array.fromAsync(api.pages(path, { limit: PAGE, cursor }));
}
