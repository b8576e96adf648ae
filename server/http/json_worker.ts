/**
 * The thread in which long bodies are parsed: tens of milliseconds that would hold up the event loop.
 * The trap: the loop copies each string that it takes over, and many small values cost it more to take
 * over than to parse.
 */
import { Moved, serve } from "../../src/util/worker_serve.ts";
import { ApiError } from "../errors.ts";
import { parseBody } from "./json_body.ts";
import type { JsonWork } from "./json_thread.ts";
import { packTexts } from "./long_texts.ts";

/** Values from which on a text is handed over unparsed. */
const MANY = 2 ** 12;

const work: JsonWork = {
  parse(bytes) {
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

serve(work);
