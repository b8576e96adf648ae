/**
 * Reads JSON bodies: media type, size, then `json_parse.ts`. Trap: parsing megabytes takes tens of
 * milliseconds of the event loop, so long bodies are parsed in a thread. (Hono's `body-limit`
 * counts as well, but a route here needs its own limit, and the pieces that were counted.)
 */
import { joinBytes } from "../../src/util/bytes.ts";
import { OverloadedError } from "../../src/util/errors.ts";
import { ApiError } from "./errors.ts";
import { parseBody } from "./json_parse.ts";
import type { JsonThread } from "./json_thread.ts";
import type { JsonReply } from "./json_worker.ts";

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
    const { pieces, size } = await readPieces(request, this.#limit);
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

/** A body's pieces as they come in, which may lie in memory that others use, too. */
async function readPieces(
  { headers, body }: Request,
  limit: number,
): Promise<{ readonly pieces: readonly Uint8Array[]; readonly size: number }> {
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
