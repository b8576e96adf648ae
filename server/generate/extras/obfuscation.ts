/**
 * Padding of streamed events, OpenAI's `stream_options.include_obfuscation`: who watches an encrypted
 * connection would else read the lengths of tokens, and guess the text by them (arXiv 2403.09751).
 */
import { Buffer } from "node:buffer";

/** Padded events are a multiple of these bytes. */
const BLOCK = 64;
const FIELD = `,"obfuscation":""`;
const END = "}\n\n";

/** An event of one JSON object with a field `obfuscation` at its end, of random hexadecimal digits. */
export function obfuscated(event: string): string {
  const spare = -(Buffer.byteLength(event) + FIELD.length);
  const digits = ((spare % BLOCK) + BLOCK) % BLOCK;
  const random = Buffer.from(crypto.getRandomValues(new Uint8Array(BLOCK / 2))).toString("hex");
  return `${event.slice(0, -END.length)},"obfuscation":"${random.slice(0, digits)}"${END}`;
}
