/**
 * What is wrong with a training file and what is odd about it, told by line. `DatasetError` is what
 * a caller shows.
 */
import { halfCharacter } from "../../util/surrogates.ts";

/** Why one line of a file cannot be trained on. */
export interface LineFault {
  /** From 1. */
  readonly line: number;
  /** A clause, e.g. "messages[2].role is 'asistant', it should be one of system, user, …". */
  readonly reason: string;
}

/** A file that does not validate: nothing of it may be trained on. */
export class DatasetError extends Error {
  override readonly name = "DatasetError";
  /** The first faults, at most ten; empty where the file as a whole is at fault. */
  readonly faults: readonly LineFault[];
  /** Broken lines in all. */
  readonly total: number;

  constructor(message: string, faults: readonly LineFault[] = [], total: number = faults.length) {
    super(message);
    this.faults = faults;
    this.total = total;
  }
}

/** Rejects the line that is being read; the reader turns it into a `LineFault`. */
export class BrokenLine extends Error {
  override readonly name = "BrokenLine";
}

/** The text, which is whole. @throws {BrokenLine} naming where half a character stands */
export function wholeText(at: string, text: string): string {
  const half = halfCharacter(text);
  if (half === undefined) return text;
  throw new BrokenLine(`${at} has ${half}`);
}

const SHOWN_FAULTS = 10;

/** Gathers faults: the first ten are kept, all are counted. */
export class FaultList {
  readonly #first: LineFault[] = [];
  #total = 0;

  get total(): number {
    return this.#total;
  }

  add(fault: LineFault): void {
    this.#total++;
    if (this.#first.length < SHOWN_FAULTS) this.#first.push(fault);
  }

  /** @throws {DatasetError} where there is any fault; `lines` is how many were read. */
  check(lines: number): void {
    if (this.#total === 0) return;
    const shown = this.#first.map(({ line, reason }) => `line ${line}: ${reason}`);
    const rest = this.#total - shown.length;
    if (rest > 0) shown.push(`and ${rest} more`);
    const head = lines === 1
      ? "its only line is broken"
      : `${this.#total} of its ${lines} lines ${this.#total === 1 ? "is" : "are"} broken`;
    throw new DatasetError(`${head}\n${shown.join("\n")}`, this.#first, this.#total);
  }
}

interface Warning {
  readonly first: number;
  readonly last: number;
  readonly lines: number;
}

/** Gathers warnings: one for each text, with the first line that it is about and their number. */
export class WarningList {
  readonly #warnings = new Map<string, Warning>();

  /** Lines come in order; a line counts once. */
  add(line: number, text: string): void {
    const { first, last, lines } = this.#warnings.get(text) ??
      { first: line, last: 0, lines: 0 };
    this.#warnings.set(text, { first, last: line, lines: last === line ? lines : lines + 1 });
  }

  texts(): readonly string[] {
    return [...this.#warnings].map(([text, { first, lines }]) =>
      lines === 1
        ? `${text} (line ${first})`
        : `${text} (${lines} lines, the first is line ${first})`
    );
  }
}

/** A value from a file as a message shows it, cut where it is long. */
export function shown(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "an object";
  if (typeof value !== "string") return String(value);
  return `'${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`;
}
