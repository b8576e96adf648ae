// deno-lint-ignore-file no-console -- a server's log is its console
/**
 * The server's log: one line an event, to stderr, from a chosen level up. Never pass a prompt or a
 * key: whoever may read logs may read all of it.
 */
import type { ApiError } from "../errors.ts";

export const LOG_LEVELS = ["debug", "info", "warning", "error", "silent"] as const;
export type LogLevel = typeof LOG_LEVELS[number];

export const LOG_FORMATS = ["text", "json"] as const;
export type LogFormat = typeof LOG_FORMATS[number];

/** Values of a line, in this order; undefined ones are left out. */
export type LogFields = Readonly<Record<string, string | number | undefined>> & {
  readonly time?: never;
  readonly level?: never;
  readonly message?: never;
};

/** One event as one line, without its end. */
export type LineFormat = (
  level: Exclude<LogLevel, "silent">,
  message: string,
  fields: LogFields,
) => string;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warning(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/**
 * A log that writes lines of at least `level` to `write` (stderr by default).
 *
 * ```ts
 * import { createLog, textLines } from "./log.ts";
 * import { assertEquals } from "@std/assert";
 * const lines: string[] = [];
 * const now = () => new Date("2026-01-31T12:00:00Z");
 * createLog("info", (line) => lines.push(line), textLines(now))
 *   .info("GET /health", { status: 200 });
 * assertEquals(lines, ["12:00:00.000 info  GET /health status=200"]);
 * ```
 */
export function createLog(
  level: LogLevel,
  write: (line: string) => void = (line) => console.error(line),
  format: LineFormat = textLines(),
): Log {
  const least = LOG_LEVELS.indexOf(level);
  const at = (own: Exclude<LogLevel, "silent">) => {
    if (LOG_LEVELS.indexOf(own) < least) return () => {};
    return (message: string, fields: LogFields = {}) => write(format(own, message, fields));
  };
  return { debug: at("debug"), info: at("info"), warning: at("warning"), error: at("error") };
}

/** Lines of a format by its name. */
export function linesOf(format: LogFormat): LineFormat {
  return format === "json" ? jsonLines() : textLines();
}

const LABELS = { debug: "debug", info: "info ", warning: "warn ", error: "error" } as const;

/** For people: `12:00:00.000 info  message key=value`; a message stays on its line. */
export function textLines(now: () => Date = () => new Date()): LineFormat {
  return (level, message, fields) =>
    `${now().toISOString().slice(11, 23)} ${LABELS[level]} ${message}${formatFields(fields)}`;
}

/**
 * For collectors: one JSON object a line, with `time` (RFC 3339, UTC), `level`, `message` and the
 * fields, numbers as numbers.
 *
 * ```ts
 * import { createLog, jsonLines } from "./log.ts";
 * import { assertEquals } from "@std/assert";
 * const lines: string[] = [];
 * const now = () => new Date("2026-01-31T12:00:00Z");
 * createLog("info", (line) => lines.push(line), jsonLines(now)).warning("slow", { ms: 12.5 });
 * assertEquals(JSON.parse(lines[0] ?? ""), {
 *   time: "2026-01-31T12:00:00.000Z",
 *   level: "warning",
 *   message: "slow",
 *   ms: 12.5,
 * });
 * ```
 */
export function jsonLines(now: () => Date = () => new Date()): LineFormat {
  return (level, message, fields) =>
    JSON.stringify({ time: now().toISOString(), level, message, ...fields });
}

function formatFields(fields: LogFields): string {
  let line = "";
  for (const [key, value] of Object.entries<string | number | undefined>(fields)) {
    if (value === undefined) continue;
    const text = typeof value === "number" ? formatNumber(value) : value;
    line += ` ${key}=${/[\s"=\p{Cc}]/u.test(text) ? JSON.stringify(text) : text}`;
  }
  return line;
}

function formatNumber(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}

/** Logs the cause of a 5xx; other answers are the caller's affair and have their access line. */
export function logFailure(log: Log, requestId: string, failure: ApiError): void {
  const { status, cause } = failure;
  if (status < 500 || status !== 500 && cause === undefined) return;
  const detail = cause instanceof Error ? cause.stack ?? cause.message : String(cause);
  log.error(`request ${requestId} failed: ${detail}`);
}
