/**
 * Reads JSON bodies: media type, size, then JSON. Refused are broken UTF-8, more than 100 levels,
 * more than a million values, and half a character. Trap: parsing megabytes takes tens of
 * milliseconds of the event loop, so long bodies are parsed in a thread (`json_worker.ts`). (Hono's
 * `body-limit` counts as well, but a route here needs its own limit, and the pieces that were
 * counted.)
 */
import { joinBytes } from "../../src/util/bytes.ts";
import { OverloadedError } from "../../src/util/errors.ts";
import { halfCharacter } from "../../src/util/surrogates.ts";
import { ApiError, formatPath, invalid } from "../errors.ts";
import type { JsonReply, JsonThread } from "./json_thread.ts";

/** Bytes of a body that is parsed on the event loop: about a millisecond's worth. */
const SHORT = 2 ** 18;

/** The JSON bodies of one application. */
export class JsonBodies {
  readonly #limit: number;
  readonly #thread: JsonThread | undefined;
  /**
   * Resolves when the last long body was parsed here, and the event loop has served others since.
   */
  #turn: Promise<void> = Promise.resolve();

  /**
   * @param limit bytes of a body
   * @param thread for long ones; without it they are parsed here, one at a time
   */
  constructor(limit: number, thread?: JsonThread) {
    this.#limit = limit;
    this.#thread = thread;
  }

  /**
   * The body as JSON.
   *
   * @throws {ApiError} 415, 413 (counted while it arrives) or 400
   * @throws {OverloadedError} where too many long ones wait
   */
  async read(request: Request): Promise<unknown> {
    checkType(request.headers);
    return await this.#parse(await readPieces(request, this.#limit));
  }

  /**
   * JSON that is from ourselves, as bodies are parsed: what is long becomes bytes in the same fields.
   * @throws as `read` does
   */
  async parse(text: string): Promise<unknown> {
    if (text.length <= SHORT) return JSON.parse(text);
    const bytes = new TextEncoder().encode(text);
    return await this.#parse({ pieces: [bytes], size: bytes.length });
  }

  async #parse({ pieces, size }: Pieces): Promise<unknown> {
    if (size <= SHORT) return parseBody(joinBytes(pieces)).value;
    const reply = await this.#onThread(pieces);
    switch (reply?.type) {
      case undefined:
        return await this.#inTurn(() => parseBody(joinBytes(pieces)).value);
      case "text":
        return await this.#inTurn(() => JSON.parse(reply.text));
      case "value":
        return reply.value;
      case "refused":
        throw new ApiError(reply.status, reply.message, reply.details);
    }
  }

  /** Undefined where there is no thread, or where it failed: the body is still here. */
  async #onThread(pieces: readonly Uint8Array[]): Promise<JsonReply | undefined> {
    try {
      return await this.#thread?.parse(() => joinBytes(pieces));
    } catch (error) {
      if (error instanceof OverloadedError) throw error;
      return undefined;
    }
  }

  async #inTurn(parse: () => unknown): Promise<unknown> {
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    const start = performance.now();
    try {
      return parse();
    } finally {
      // what the handler does with it at once counts, too: the timer starts a turn later
      setTimeout(resolve, performance.now() - start);
    }
  }
}

/** @throws {ApiError} 415 */
function checkType(headers: Headers): void {
  const type = headers.get("content-type") ?? "";
  if (!/^application\/([\w.-]+\+)?json\s*(;|$)/i.test(type)) {
    throw new ApiError(
      415,
      `Unsupported content type ${type === "" ? "(none)" : `'${type.slice(0, 80)}'`}: ` +
        "send the body with 'content-type: application/json'.",
      { code: "unsupported_media_type" },
    );
  }
  const encoding = headers.get("content-encoding");
  if (encoding !== null && encoding !== "identity") {
    throw new ApiError(
      415,
      `Unsupported content encoding '${encoding.slice(0, 80)}': send the body uncompressed.`,
      { code: "unsupported_media_type" },
    );
  }
}

interface Pieces {
  readonly pieces: readonly Uint8Array[];
  readonly size: number;
}

/** A body's pieces as they come in, which may lie in memory that others use, too. */
async function readPieces(
  { headers, body }: Request,
  limit: number,
): Promise<Pieces> {
  if (Number(headers.get("content-length") ?? 0) > limit) throw tooLarge(limit);
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of body ?? []) {
    size += piece.byteLength;
    if (size > limit) throw tooLarge(limit);
    pieces.push(piece);
  }
  return { pieces, size };
}

/** 413; the connection ends with it. */
export function tooLarge(limit: number): ApiError {
  return new ApiError(413, `The request body is larger than the limit of ${limit} bytes.`, {
    code: "request_too_large",
    // what was not read would be taken for the next request
    headers: { connection: "close" },
  });
}

// ---- from bytes to JSON ----

/** Most levels of a body: more would overflow the stack of code that walks it. */
const MAX_DEPTH = 100;
/**
 * Most values of a body, enough for the tokens of the longest context. More would hold up the
 * event loop.
 */
const MAX_VALUES = 2 ** 20 + 1000;

export interface Parsed {
  readonly text: string;
  readonly value: unknown;
  /** How many values are in it, itself among them. */
  readonly count: number;
}

/** @throws {ApiError} 400 */
export function parseBody(bytes: Uint8Array): Parsed {
  const { text, value } = parseJson(bytes);
  const values = { left: MAX_VALUES };
  const fault = tooMuch(value, MAX_DEPTH, values);
  if (fault !== undefined) {
    throw new ApiError(400, `The JSON body ${fault}.`, { code: "invalid_json" });
  }
  checkCharacters(text, value);
  return { text, value, count: MAX_VALUES - values.left };
}

function parseJson(bytes: Uint8Array): Pick<Parsed, "text" | "value"> {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return { text, value: JSON.parse(text) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ApiError(
      400,
      `The JSON body of your request could not be parsed: ${reason}.`,
      { code: "invalid_json" },
    );
  }
}

/** What is too much: values, or levels. */
function tooMuch(value: unknown, depth: number, values: { left: number }): string | undefined {
  if (--values.left < 0) return `has more than ${MAX_VALUES} values`;
  if (typeof value !== "object" || value === null) return undefined;
  if (depth === 0) return `is nested deeper than ${MAX_DEPTH} levels`;
  for (const inner of Array.isArray(value) ? value : Object.values(value)) {
    const fault = tooMuch(inner, depth - 1, values);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/**
 * Only an escape can spell half a character in JSON. Few bodies have one, so most are not
 * searched.
 */
const ESCAPE = /\\ud[89a-f]/i;

/**
 * Looks through a body's strings and keys.
 *
 * @param json the text that it was read from
 * @throws {ApiError} 400, naming the field
 */
function checkCharacters(json: string, value: unknown): void {
  if (ESCAPE.test(json)) check(value, []);
}

function check(value: unknown, path: readonly PropertyKey[]): void {
  if (typeof value === "string") return refuseHalf(value, path);
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    refuseHalf(key, path);
    check(inner, [...path, Array.isArray(value) ? Number(key) : key]);
  }
}

function refuseHalf(text: string, path: readonly PropertyKey[]): void {
  const half = halfCharacter(text);
  if (half === undefined) return;
  const param = formatPath(path);
  throw invalid(param, `Invalid '${param}': it has ${half}.`, "invalid_unicode");
}
