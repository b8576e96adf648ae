/**
 * Where requests have a prompt's text, and what becomes of a long one there: UTF-8 bytes, which threads
 * hand on without a copy. No JSON has bytes, so a schema can tell them apart (`schema/common.ts`).
 */

/** Characters from which on a text is handed over as bytes. */
const LONG = 2 ** 16;

type Fields = Record<string, unknown>;

/**
 * Replaces the long ones of `prompt`, one or many, of `system` and `instructions`, and of the content of
 * messages and of items of `input`, whole or in parts, which may hold parts in turn.
 *
 * @param body as it was parsed; it is changed
 * @returns the memory of the bytes
 */
export function packTexts(body: unknown): ArrayBuffer[] {
  if (!isFields(body)) return [];
  const messages = [...partsOf(body["messages"]), ...partsOf(body["input"])];
  const contents = [
    body["system"],
    ...messages.flatMap(({ content, output }) => [content, output]),
  ];
  const parts = contents.flatMap(partsOf);
  return [
    ...packed(body, "prompt"),
    ...(Array.isArray(body["prompt"]) ? packedAll(body["prompt"]) : []),
    ...packed(body, "input"),
    ...messages.flatMap((one) => [...packed(one, "content"), ...packed(one, "output")]),
    ...packed(body, "system"),
    ...packed(body, "instructions"),
    ...[...parts, ...parts.flatMap(({ content }) => partsOf(content))]
      .flatMap((part) => [...packed(part, "text"), ...packed(part, "content")]),
  ];
}

function partsOf(content: unknown): Fields[] {
  return Array.isArray(content) ? content.filter(isFields) : [];
}

function packedAll(texts: unknown[]): ArrayBuffer[] {
  return texts.flatMap((_, index) => packed(texts as unknown as Fields, String(index)));
}

function packed(parent: Fields, key: string): ArrayBuffer[] {
  const text = parent[key];
  if (typeof text !== "string" || text.length < LONG) return [];
  const bytes = new TextEncoder().encode(text);
  parent[key] = bytes;
  return [bytes.buffer];
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
