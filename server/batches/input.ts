/** A batch's file: its lines, what each must have, and what is wrong with those that have not. */
import { z } from "@hono/zod-openapi";
import type { BatchError } from "../../adapters/store/store.ts";
import { LineSplitter, type RawLine } from "../../src/train/data/jsonl.ts";
import { turnEvery } from "../../src/util/time.ts";
import { type ApiError, validationError } from "../errors.ts";

/** OpenAI's. */
const MOST_LINES = 50_000;
/** Of a batch's record. */
const MOST_ERRORS = 100;
/** Milliseconds of the event loop between turns for others. */
const TURN_MS = 4;

/** One request of a batch. */
export interface BatchLine {
  /** Of the file, from 1. */
  readonly line: number;
  readonly customId: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** What validation found. */
export interface Validated {
  readonly total: number;
  /** The model that every line names; null where they differ, or leave it out. */
  readonly model: string | null;
  /** In the file's order; none = it can run. */
  readonly errors: readonly BatchError[];
}

/** The lines of a file that are not blank, as it comes; it gives way to other work in between. */
export async function* readLines(
  content: AsyncIterable<Uint8Array>,
): AsyncGenerator<RawLine> {
  const splitter = new LineSplitter();
  const turn = turnEvery(TURN_MS);
  for await (const piece of content) {
    for (const line of splitter.push(piece)) {
      yield line;
      await turn();
    }
  }
  yield* splitter.end();
}

/** @throws {LineFault} */
export function parseLine({ line, bytes }: RawLine, endpoint: string): BatchLine {
  if (bytes === undefined) throw new LineFault("invalid_json_line", "This line is too long.", line);
  const { custom_id: customId, body } = checked(parsed(bytes, line), endpoint, line);
  if (body["stream"]) {
    throw new LineFault(
      "invalid_value",
      "Invalid 'body.stream': a batch's requests are not streamed; leave it out.",
      line,
      "body.stream",
    );
  }
  return { line, customId, body };
}

/**
 * Reads a whole file.
 * @throws what `content` throws, or `signal` was aborted with
 */
export async function validateLines(
  content: AsyncIterable<Uint8Array>,
  endpoint: string,
  signal: AbortSignal,
): Promise<Validated> {
  const errors: BatchError[] = [];
  const ids = new Set<string>();
  const models = new Set<unknown>();
  let total = 0;
  for await (const raw of readLines(content)) {
    signal.throwIfAborted();
    if (++total > MOST_LINES) return { total, model: null, errors: [tooMany()] };
    try {
      const { customId, body: { model } } = parseLine(raw, endpoint);
      if (ids.has(customId)) throw duplicate(raw.line);
      ids.add(customId);
      models.add(model);
    } catch (error) {
      if (!(error instanceof LineFault)) throw error;
      if (errors.length < MOST_ERRORS) errors.push(error.batchError);
    }
  }
  if (total === 0) errors.push(empty());
  const [model] = models;
  return { total, model: models.size === 1 && typeof model === "string" ? model : null, errors };
}

/** What is wrong with one line. */
class LineFault extends Error {
  override readonly name = "LineFault";
  readonly batchError: BatchError;
  constructor(code: string, message: string, line: number, param: string | null = null) {
    super(message);
    this.batchError = { code, message, param, line };
  }
}

function lineSchema(endpoint: string) {
  return z.strictObject({
    custom_id: z.string().min(1).max(512),
    method: z.literal("POST"),
    url: z.literal(endpoint),
    body: z.record(z.string(), z.unknown()),
  });
}

function checked(value: unknown, endpoint: string, line: number) {
  const result = lineSchema(endpoint).safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  const { message, details }: ApiError = validationError(result.error.issues);
  throw new LineFault(details.code ?? "invalid_request", message, line, details.param ?? null);
}

function parsed(bytes: Uint8Array, line: number): unknown {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new LineFault("invalid_json_line", "This line is not parseable as valid JSON.", line);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new LineFault("invalid_json_line", "This line is no JSON object.", line);
}

function duplicate(line: number): LineFault {
  return new LineFault(
    "duplicate_custom_id",
    "The custom_id of this request is that of another one; each must have its own.",
    line,
    "custom_id",
  );
}

function tooMany(): BatchError {
  const message = `The file has more than ${MOST_LINES} requests, the most of a batch.`;
  return { code: "too_many_requests", message, param: null, line: null };
}

function empty(): BatchError {
  const message = "The input file is empty. A batch has at least one request.";
  return { code: "empty_file", message, param: null, line: null };
}
