// deno-lint-ignore-file no-console -- a server's log is its console
/**
 * The server's log: one line an event, to stderr, above a chosen level. It never sees prompts or
 * keys; callers pass only what may be read by anyone who reads logs.
 */

export const LOG_LEVELS = ["debug", "info", "warning", "error", "silent"] as const;
export type LogLevel = typeof LOG_LEVELS[number];

/** Values of a line, written `key=value` in this order; undefined ones are left out. */
export type LogFields = Readonly<Record<string, string | number | undefined>>;

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
 * import { createLog } from "./log.ts";
 * import { assertEquals } from "@std/assert";
 * const lines: string[] = [];
 * createLog("info", (line) => lines.push(line), () => "12:00:00.000")
 *   .info("GET /health", { status: 200 });
 * assertEquals(lines, ["12:00:00.000 info  GET /health status=200"]);
 * ```
 */
export function createLog(
  level: LogLevel,
  write: (line: string) => void = (line) => console.error(line),
  now: () => string = () => new Date().toISOString().slice(11, 23),
): Log {
  const least = LOG_LEVELS.indexOf(level);
  const at = (own: LogLevel, label: string) => {
    if (LOG_LEVELS.indexOf(own) < least) return () => {};
    return (message: string, fields: LogFields = {}) =>
      write(`${now()} ${label} ${message}${formatFields(fields)}`);
  };
  return {
    debug: at("debug", "debug"),
    info: at("info", "info "),
    warning: at("warning", "warn "),
    error: at("error", "error"),
  };
}

function formatFields(fields: LogFields): string {
  let line = "";
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const text = typeof value === "number" ? formatNumber(value) : value;
    line += ` ${key}=${/[\s"=\p{Cc}]/u.test(text) ? JSON.stringify(text) : text}`;
  }
  return line;
}

function formatNumber(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}
