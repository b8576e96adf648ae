/**
 * Reads JSON bodies: type, size, UTF-8, depth. A body of megabytes costs tens of milliseconds, and all
 * else waits meanwhile, so it is decoded as it comes in, and long ones are parsed one at a time, with a
 * pause between in which others are served.
 */
import { checkCharacters } from "./characters.ts";
import { ApiError } from "./errors.ts";

/** Levels of a body: more would overflow the stack of whatever walks it later. */
const MAX_DEPTH = 100;
/** Values of a body: as many as the longest context has tokens; more hold up the event loop. */
const MAX_VALUES = 2 ** 20 + 1000;

/** Characters that are parsed at once, whoever else waits: a millisecond's worth. */
const SHORT = 2 ** 17;

/** The JSON bodies of one application. */
export class JsonBodies {
  readonly #limit: number;
  /** Resolves when no long body is being parsed, and others have been served since. */
  #turn: Promise<void> = Promise.resolve();

  /** @param limit bytes of a body */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The body as JSON. @throws {ApiError} 415, 413 (counted while it arrives) or 400 */
  async read(request: Request): Promise<unknown> {
    checkType(request.headers);
    const text = await readText(request, this.#limit);
    if (text.length <= SHORT) return parse(text);
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    const start = performance.now();
    try {
      return parse(text);
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

function parse(text: string): unknown {
  const value = parseJson(text);
  checkShape(value);
  checkCharacters(text, value);
  return value;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw notJson(error);
  }
}

function notJson(error: unknown): ApiError {
  const reason = error instanceof Error ? error.message : String(error);
  return new ApiError(400, `The JSON body of your request could not be parsed: ${reason}.`, {
    code: "invalid_json",
  });
}

/** @throws {ApiError} 400 for what would take a schema, or a stack, too long */
function checkShape(value: unknown): void {
  const fault = tooMuch(value, MAX_DEPTH, { left: MAX_VALUES });
  if (fault === undefined) return;
  throw new ApiError(400, `The JSON body ${fault}.`, { code: "invalid_json" });
}

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

async function readText({ headers, body }: Request, limit: number): Promise<string> {
  if (Number(headers.get("content-length") ?? 0) > limit) throw tooLarge(limit);
  if (body === null) return "";
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const pieces: string[] = [];
  let total = 0;
  for await (const chunk of body) {
    total += chunk.byteLength;
    if (total > limit) throw tooLarge(limit);
    pieces.push(decode(decoder, chunk));
  }
  pieces.push(decode(decoder));
  return pieces.join("");
}

/** The next piece, or the end. @throws {ApiError} 400 for what is no UTF-8 */
function decode(decoder: TextDecoder, chunk?: Uint8Array): string {
  try {
    return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true });
  } catch (error) {
    throw notJson(error);
  }
}

/** 413; the connection ends with it. */
export function tooLarge(limit: number): ApiError {
  return new ApiError(413, `The request body is larger than the limit of ${limit} bytes.`, {
    code: "request_too_large",
    // what was not read would be taken for the next request
    headers: { connection: "close" },
  });
}
