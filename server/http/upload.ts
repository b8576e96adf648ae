/**
 * Reads a multipart body with one file and hands the file on as it arrives, so that a large one is
 * never in memory as a whole.
 */
import { Busboy, type BusboyFileStream, type BusboyInstance } from "@fastify/busboy";
import { tooLarge } from "./json_body.ts";
import { ApiError, invalid } from "../errors.ts";

/** Bytes around the file itself: boundaries, headers, small fields. */
const SLACK = 1 << 16;
const LIMITS = { fields: 32, fieldSize: 1 << 15, files: 1, parts: 40, headerSize: 8192 };

/** Which field of a body has the file, and how many bytes that may be. */
export interface FileField {
  readonly name: string;
  readonly limit: number;
}

export interface Upload<T> {
  readonly filename: string;
  /** Everything but the file, by name. */
  readonly fields: Readonly<Record<string, string>>;
  /** What `receive` made of the file's content. */
  readonly file: T;
}

/**
 * Reads a multipart body; `receive` gets the content of the file's field while it arrives.
 * @throws {ApiError} 415, 413 or 400; what `receive` throws
 */
export async function readUpload<T extends AsyncDisposable>(
  request: Request,
  { name, limit }: FileField,
  receive: (content: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<Upload<T>> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > limit + SLACK) throw tooLarge(limit);
  const parser = parserOf(request, name);
  const fields: Record<string, string> = {};
  parser.on("field", (name, value) => fields[name] = value);
  const received = receiveFile(parser, limit, receive);
  try {
    await Promise.race([pump(request, parser, limit), received.failed]);
  } catch (error) {
    parser.destroy();
    await received.abandon();
    throw error;
  }
  const { file, filename } = await received.whole();
  if (file === undefined) {
    throw invalid(name, `Missing required parameter: '${name}'.`, "missing_required_parameter");
  }
  return { file, filename, fields };
}

function parserOf(request: Request, field: string): BusboyInstance {
  const type = request.headers.get("content-type") ?? "";
  if (!/^multipart\/form-data\s*;/i.test(type)) {
    throw new ApiError(
      415,
      `Unsupported content type ${type === "" ? "(none)" : `'${type.slice(0, 80)}'`}: ` +
        "send the file as 'multipart/form-data'.",
      { code: "unsupported_media_type" },
    );
  }
  try {
    return new Busboy({
      headers: { "content-type": type },
      limits: LIMITS,
      isPartAFile: (name) => name === field,
    });
  } catch (error) {
    throw malformed(error);
  }
}

interface Received<T> {
  /** Rejects as soon as receiving the file fails; never resolves. */
  readonly failed: Promise<never>;
  whole(): Promise<{ readonly file: T | undefined; readonly filename: string }>;
  /** Ends the reading, and removes what was received. */
  abandon(): Promise<void>;
}

function receiveFile<T extends AsyncDisposable>(
  parser: BusboyInstance,
  limit: number,
  receive: (content: AsyncIterable<Uint8Array>) => Promise<T>,
): Received<T> {
  const { promise: failed, reject } = Promise.withResolvers<never>();
  failed.catch(() => {});
  let stream: BusboyFileStream | undefined;
  let file: Promise<T> | undefined;
  let filename = "file";
  parser.on("file", (_name: string, content: BusboyFileStream, given: string | undefined) => {
    stream = content;
    filename = given ?? filename;
    content.on("error", () => {}); // whoever reads it meets it; afterwards no one needs to
    file = receive(bounded(content, limit));
    file.catch(reject);
  });
  return {
    failed,
    whole: async () => ({ file: await file, filename }),
    abandon: async () => {
      stream?.destroy(new Error("the body was cut off"));
      await (await file?.catch(() => undefined))?.[Symbol.asyncDispose]();
    },
  };
}

async function* bounded(stream: BusboyFileStream, limit: number): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  try {
    for await (const chunk of stream) {
      bytes += chunk.length;
      if (bytes > limit) throw tooLarge(limit);
      yield chunk;
    }
  } catch (error) {
    throw error instanceof ApiError ? error : malformed(error);
  }
}

async function pump(request: Request, parser: BusboyInstance, limit: number): Promise<void> {
  const { promise: finished, resolve, reject } = Promise.withResolvers<void>();
  finished.catch(() => {});
  parser.on("finish", () => resolve());
  parser.on("error", (error) => reject(malformed(error)));
  let total = 0;
  for await (const chunk of request.body ?? []) {
    total += chunk.length;
    if (total > limit + SLACK) throw tooLarge(limit);
    if (parser.destroyed) return;
    if (!parser.write(chunk)) await Promise.race([drained(parser), finished]);
  }
  if (!parser.destroyed) parser.end();
  await finished;
}

function drained(parser: BusboyInstance): Promise<void> {
  return new Promise((resolve) => parser.once("drain", () => resolve()));
}

function malformed(error: unknown): ApiError {
  const reason = error instanceof Error ? error.message : String(error);
  return new ApiError(400, `The multipart body could not be read: ${reason}.`, {
    code: "invalid_multipart",
  });
}
