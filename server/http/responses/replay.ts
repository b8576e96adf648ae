// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A stored response as the events of a stream. Trap: each text is one delta, so that events have other
 * numbers than when it was made.
 */
import type { StoredResponse } from "../../../adapters/store/store.ts";
import type { ResponseBody, ResponseEventType } from "./answer_schema.ts";
import type { OutputCall, OutputItem, OutputMessage } from "./items.ts";
import { itemsText, type KeptResponses, storedText } from "./kept.ts";
import { eventText } from "./run.ts";

/** An event, its fields as JSON. */
type Told = readonly [ResponseEventType, string];

export interface ReplayOptions {
  /** The number of the last event that is left out. */
  readonly after: number;
  readonly padded: boolean;
}

/** Events of a response as text; what is to be read is read before the first one. */
export async function replay(
  kept: KeptResponses,
  stored: StoredResponse,
  { after, padded }: ReplayOptions,
): Promise<Iterable<string>> {
  const [body, output] = [await kept.bodyOf(stored), await kept.outputOf(stored)];
  return (function* () {
    let number = 0;
    for (const [type, fields] of eventsOf(stored, body, output)) {
      const sequence_number = number++;
      if (sequence_number > after) yield eventText({ type, sequence_number, fields, padded });
    }
  })();
}

function* eventsOf(
  stored: StoredResponse,
  body: Omit<ResponseBody, "output">,
  output: readonly OutputItem[],
): Iterable<Told> {
  const begun = { ...body, status: "in_progress", output: [], usage: null };
  const response = { ...begun, completed_at: null, incomplete_details: null };
  yield told("response.created", { response });
  yield told("response.in_progress", { response });
  for (const [output_index, item] of output.entries()) {
    const place = { item_id: item.id, output_index };
    const within = item.type === "message" ? messageEvents(item, place) : callEvents(item, place);
    yield* within;
    yield told("response.output_item.done", { output_index, item });
  }
  const end = body.status === "incomplete" ? "incomplete" : "completed";
  yield [`response.${end}`, `{"response":${storedText(stored)}}`];
}

interface Place {
  readonly item_id: string;
  readonly output_index: number;
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
