/**
 * The thread in which long bodies are parsed: tens of milliseconds that would hold up the event loop.
 * The trap: many small values cost the loop more to take over than to parse.
 */
import { ApiError, type ErrorDetails, type ErrorStatus } from "./errors.ts";
import { parseBody } from "./json_parse.ts";

export type JsonReply =
  | { readonly type: "value"; readonly value: unknown }
  /** Checked, and to be parsed by who asked. */
  | { readonly type: "text"; readonly text: string }
  | {
    readonly type: "refused";
    readonly status: ErrorStatus;
    readonly message: string;
    readonly details: ErrorDetails;
  };

/** Values from which on a text is handed over unparsed. */
const MANY = 2 ** 12;

interface WorkerScope {
  onmessage: ((event: MessageEvent<Uint8Array>) => void) | null;
  postMessage(reply: JsonReply): void;
}

function replyTo(bytes: Uint8Array): JsonReply {
  try {
    const { text, value, count } = parseBody(bytes);
    return count > MANY ? { type: "text", text } : { type: "value", value };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const { status, message, details } = error;
    return { type: "refused", status, message, details };
  }
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = ({ data }) => scope.postMessage(replyTo(data));
