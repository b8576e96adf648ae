/**
 * The thread in which long bodies are parsed: tens of milliseconds that would hold up the event loop.
 * The trap: the loop copies each string that it takes over, and many small values cost it more to take
 * over than to parse.
 */
import { Moved, serve } from "../../src/util/worker_serve.ts";
import { ApiError, type ErrorDetails, type ErrorStatus } from "./errors.ts";
import { parseBody } from "./json_parse.ts";
import { packTexts } from "./long_texts.ts";

export type JsonReply =
  /** Long texts of prompts are UTF-8 bytes. */
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

const work = {
  parse(bytes: Uint8Array): JsonReply | Moved<JsonReply> {
    try {
      const { text, value, count } = parseBody(bytes);
      if (count > MANY) return { type: "text", text };
      const buffers = packTexts(value);
      return new Moved({ type: "value", value }, buffers);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { status, message, details } = error;
      return { type: "refused", status, message, details };
    }
  },
};

export type JsonWork = typeof work;

serve(work);
