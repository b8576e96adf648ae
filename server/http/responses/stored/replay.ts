// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A stored response as the events of a stream. Trap: each text is one delta, so that events have other
 * numbers than when it was made.
 */
import type { StoredResponse } from "../../../../adapters/store/store.ts";
import { EVENT_HEADERS } from "../../../generate/answer.ts";
import type { ResponseBody, ResponseEventType } from "../answer_schema.ts";
import type { OutputCall, OutputItem, OutputMessage, OutputReasoning } from "../items.ts";
import type { KeptResponses } from "./kept.ts";
import { itemsText, storedText } from "./rows.ts";
import type { EventReading } from "../event_log.ts";
import { eventText } from "../run.ts";

/** An event, its fields as JSON. */
type Told = readonly [ResponseEventType, string];

/** Milliseconds between two looks at one that another server runs. */
const LOOK_MS = 1000;

/**
 * Events of a response as text, when it has ended; what is to be read is read before the first one.
 * Whoever heard it live, by other numbers, still hears its last event.
 */
export async function replay(
  kept: KeptResponses,
  stored: StoredResponse,
  reading: EventReading,
): Promise<AsyncIterable<string> | Iterable<string>> {
  return stored.runningUntil === null
    ? await replayed(kept, stored, reading)
    : replayLater(kept, stored.id, reading);
}

async function* replayLater(
  kept: KeptResponses,
  id: string,
  reading: EventReading,
): AsyncGenerator<string> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    const stored = await kept.find(id);
    if (stored.runningUntil === null) return yield* await replayed(kept, stored, reading);
  }
}

async function replayed(
  kept: KeptResponses,
  stored: StoredResponse,
  { after, padded }: EventReading,
): Promise<Iterable<string>> {
  const [body, output] = [await kept.bodyOf(stored), await kept.outputOf(stored)];
  const events = [...eventsOf(stored, body, output)];
  const first = Math.min(after + 1, body.background ? events.length - 1 : events.length);
  return (function* () {
    for (const [at, [type, fields]] of events.slice(first).entries()) {
      const sequence_number = Math.max(first, after + 1) + at;
      yield eventText({ type, sequence_number, fields, padded });
    }
  })();
}

/** Events as the answer to a request. */
export function streamOf(events: AsyncIterable<string> | Iterable<string>): Response {
  const body = ReadableStream.from(events).pipeThrough(new TextEncoderStream());
  return new Response(body, { headers: EVENT_HEADERS });
}

function* eventsOf(
  stored: StoredResponse,
  body: Omit<ResponseBody, "output">,
  output: readonly OutputItem[],
): Iterable<Told> {
  const begun = { ...body, status: "in_progress", output: [], usage: null, error: null };
  const response = { ...begun, completed_at: null, incomplete_details: null };
  yield told("response.created", { response });
  yield told("response.in_progress", { response });
  for (const [output_index, item] of output.entries()) {
    const place = { item_id: item.id, output_index };
    yield* itemEvents(item, place);
    yield told("response.output_item.done", { output_index, item });
  }
  const { status } = body;
  const end = status === "completed" || status === "incomplete" ? status : "failed";
  yield [`response.${end}`, `{"response":${storedText(stored)}}`];
}

interface Place {
  readonly item_id: string;
  readonly output_index: number;
}

function itemEvents(item: OutputItem, place: Place): Iterable<Told> {
  switch (item.type) {
    case "reasoning":
      return reasoningEvents(item, place);
    case "message":
      return messageEvents(item, place);
    case "function_call":
      return callEvents(item, place);
  }
}

function* reasoningEvents(item: OutputReasoning, place: Place): Iterable<Told> {
  const begun = { ...item, status: "in_progress", content: [] };
  yield told("response.output_item.added", { output_index: place.output_index, item: begun });
  for (const [content_index, part] of item.content.entries()) {
    const at = { ...place, content_index };
    const { text } = part;
    yield told("response.content_part.added", { ...at, part: { ...part, text: "" } });
    yield told("response.reasoning_text.delta", { ...at, delta: text });
    yield told("response.reasoning_text.done", { ...at, text });
    yield told("response.content_part.done", { ...at, part });
  }
}

function* messageEvents(item: OutputMessage, place: Place): Iterable<Told> {
  const begun = { ...item, status: "in_progress", content: [] };
  yield told("response.output_item.added", { output_index: place.output_index, item: begun });
  for (const [content_index, part] of item.content.entries()) {
    const at = { ...place, content_index };
    const { text, logprobs } = part;
    yield told("response.content_part.added", { ...at, part: { ...part, text: "" } });
    if (text.length > 0) yield told("response.output_text.delta", { ...at, delta: text, logprobs });
    yield told("response.output_text.done", { ...at, text, logprobs });
    yield told("response.content_part.done", { ...at, part });
  }
}

function* callEvents(item: OutputCall, place: Place): Iterable<Told> {
  const begun = { ...item, status: "in_progress", arguments: "" };
  const { name, arguments: json } = item;
  yield told("response.output_item.added", { output_index: place.output_index, item: begun });
  if (json !== "") yield told("response.function_call_arguments.delta", { ...place, delta: json });
  yield told("response.function_call_arguments.done", { ...place, name, arguments: json });
}

function told(type: ResponseEventType, fields: object): Told {
  return [type, itemsText(fields)];
}
