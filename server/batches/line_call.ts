/**
 * Runs one line: the application's own fetch answers it, with the principal of whoever created the
 * batch, so that what holds over HTTP holds here. What is refused for now is asked again.
 */
import type { BatchRecord, BatchResult } from "../../adapters/store/store.ts";
import { newId } from "../../src/util/ids.ts";
import { waitFor } from "../../src/util/time.ts";
import type { BatchCall } from "../access/access.ts";
import { usageOf, wasCut } from "./endpoints.ts";
import type { BatchLine } from "./input.ts";
import { Interrupt } from "./held_batch.ts";

/** The application, as lines reach it. */
export type Answerer = (
  request: Request,
  on: { readonly batch: BatchCall },
) => Response | Promise<Response>;

/** When a line's work ends before its time. */
export interface LineSignals {
  /** Cuts it off. */
  readonly cut: AbortSignal;
  /** Lets it end, and begins nothing new. */
  readonly stop: AbortSignal;
}

/** Milliseconds before a line is asked again, where the answer does not say. */
const AGAIN_MS = 2000;
const LONGEST_MS = 60_000;

/** @throws {Interrupt} where it is to run another time */
export async function runLine(
  { line, customId, body }: BatchLine,
  batch: BatchRecord,
  answer: Answerer,
  { cut, stop }: LineSignals,
): Promise<BatchResult> {
  const text = JSON.stringify(body);
  const either = AbortSignal.any([cut, stop]);
  for (;;) {
    cut.throwIfAborted();
    if (stop.aborted) throw new Interrupt("stop");
    const { response, answered } = await ask(batch, text, answer, cut);
    const again = pauseBefore(response);
    if (again !== undefined) {
      await waitFor(again, either);
      continue;
    }
    // the server's own end, not the line's
    if (response.status >= 500 && stop.aborted) throw new Interrupt("stop");
    const failed = !response.ok;
    const value: unknown = JSON.parse(answered);
    if (!failed && wasCut(batch.endpoint, value)) throw new Interrupt("stop");
    const data = outputLine(customId, {
      status: response.status,
      requestId: response.headers.get("x-request-id") ?? "",
      body: answered,
    });
    return { line, failed, data, usage: failed ? undefined : usageOf(value) };
  }
}

async function ask(batch: BatchRecord, text: string, answer: Answerer, cut: AbortSignal) {
  try {
    const response = await answer(requestOf(batch, text, cut), { batch: callOf(batch) });
    return { response, answered: await response.text() };
  } finally {
    // what an answer says that was cut off does not count
    cut.throwIfAborted();
  }
}

function requestOf({ endpoint }: BatchRecord, body: string, signal: AbortSignal): Request {
  const headers = { "content-type": "application/json" };
  return new Request(`http://localhost${endpoint}`, { method: "POST", headers, body, signal });
}

function callOf({ tenant, keyId, scopes }: BatchRecord): BatchCall {
  return { principal: { tenant, keyId, scopes: new Set(scopes) } };
}

/** Milliseconds; undefined where the answer stands. A limit that no waiting helps has no header. */
function pauseBefore({ status, headers }: Response): number | undefined {
  const [ms, seconds] = [headers.get("retry-after-ms"), headers.get("retry-after")];
  const asked = ms !== null ? Number(ms) : seconds !== null ? 1000 * Number(seconds) : undefined;
  if (status !== 503 && (status !== 429 || asked === undefined)) return undefined;
  return Math.min(LONGEST_MS, asked || AGAIN_MS);
}

interface LineAnswer {
  readonly status: number;
  readonly requestId: string;
  /** JSON in one line. */
  readonly body: string;
}

function outputLine(customId: string, { status, requestId, body }: LineAnswer): Uint8Array {
  const response = `{"status_code":${status},"request_id":${JSON.stringify(requestId)},` +
    `"body":${body}}`;
  return lineOf(customId, response, "null");
}

/** The line of a request that was not run. */
export function unrunLine(
  customId: string,
  error: { readonly code: string; readonly message: string },
): Uint8Array {
  return lineOf(customId, "null", JSON.stringify(error));
}

function lineOf(customId: string, response: string, error: string): Uint8Array {
  const head = `"id":${JSON.stringify(newId("batch_req", "_"))},` +
    `"custom_id":${JSON.stringify(customId)}`;
  return new TextEncoder().encode(`{${head},"response":${response},"error":${error}}\n`);
}
