/**
 * What becomes of arguments that a request has and its endpoint has not: they are left out, and named
 * in a header of the answer and once in the log, or refused where the server is strict.
 */
import type { z } from "@hono/zod-openapi";
import { invalid } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";

/** The header that names them. */
export const IGNORED_HEADER = "lembas-ignored";

/** Names in one header; the log's, of all requests together. */
const MOST_NAMES = 16;
const MOST_LOGGED = 100;
/** Characters of a name. */
const MOST_LENGTH = 64;

export class UnknownArguments {
  readonly #strict: boolean;
  readonly #log: Log;
  readonly #logged = new Set<string>();

  constructor(strict: boolean, log: Log) {
    this.#strict = strict;
    this.#log = log;
  }

  /**
   * Names on a request's notes what a body has beside the schema's fields.
   * @throws {ApiError} 400 naming the first of them, where the server is strict
   */
  note(notes: { ignored?: string }, schema: z.ZodObject, body: unknown): void {
    if (typeof body !== "object" || body === null || Array.isArray(body)) return;
    const names = Object.keys(body).filter((name) => !Object.hasOwn(schema.shape, name));
    const [first] = names;
    if (first === undefined) return;
    if (this.#strict) {
      const message = `Unrecognized request argument supplied: ${first}`;
      throw invalid(first, message, "unknown_parameter");
    }
    this.#name(notes, names);
  }

  /**
   * The same of a field that is known, and whose value has no effect.
   * @param neutral a value that asks for nothing; undefined = there is none
   * @throws {ApiError} 400 where the server is strict
   */
  leaveOut(notes: { ignored?: string }, name: string, neutral: string | undefined): void {
    if (this.#strict) {
      const message = `Unsupported parameter: '${name}' has no effect on this server; leave it ` +
        `out${neutral === undefined ? "" : ` or send "${neutral}"`}.`;
      throw invalid(name, message, "unsupported_parameter");
    }
    this.#name(notes, [name]);
  }

  #name(notes: { ignored?: string }, names: readonly string[]): void {
    const told = names.slice(0, MOST_NAMES).map((name) =>
      name.slice(0, MOST_LENGTH).toWellFormed()
    );
    const before = notes.ignored === undefined ? [] : [notes.ignored];
    notes.ignored = [...before, ...told.map(encodeURIComponent)].join(", ");
    for (const name of told) this.#tell(name);
  }

  /** Clients choose the names, so only so many are ever logged. */
  #tell(name: string): void {
    if (this.#logged.has(name) || this.#logged.size >= MOST_LOGGED) return;
    this.#logged.add(name);
    this.#log.warning("ignored a request's argument that has no effect here (--strict refuses)", {
      argument: name,
    });
  }
}
