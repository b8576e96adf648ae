/** What a request puts in, as items that can be kept: whole, with ids. */
import { invalid } from "../../errors.ts";
import type { Text } from "../../../src/checkpoint/text/prompt.ts";
import { type InputItem, type Item, itemId } from "./items.ts";
import type { KeptResponses } from "./stored/kept.ts";
import { type Earlier, NOTHING_EARLIER } from "./stored/rows.ts";
import type { CountRequest } from "./schema.ts";
import type { PlacedItem } from "./to_chat.ts";

/** Finds what an `item_reference` stands for; `at` is its name for errors. */
export type FindItem = (id: string, at: string) => Promise<Item>;

/**
 * @param response the id of the response that is made of it
 * @throws what `find` does
 */
export async function readInput(
  input: CountRequest["input"],
  response: string,
  find: FindItem,
): Promise<PlacedItem[]> {
  if (input === undefined || input === null) return [];
  if (!Array.isArray(input)) {
    return [{ item: message("user", input, idFor(response, "message", 0)), at: "input" }];
  }
  const placed: PlacedItem[] = [];
  for (const [index, one] of input.entries()) {
    const at = `input[${index}]`;
    const item = await whole(one, response, placed.length, (id) => find(id, `${at}.id`));
    if (item !== undefined) placed.push({ item, at });
  }
  return placed;
}

function idFor(response: string, type: Item["type"], index: number): string {
  return itemId(response, type, "in", index);
}

/** Undefined for what is left out. */
async function whole(
  given: InputItem,
  response: string,
  index: number,
  find: (id: string) => Promise<Item>,
): Promise<Item | undefined> {
  switch (given.type) {
    case "reasoning": {
      const { content, summary, status } = given;
      const fields = { content: content ?? [], summary: summary ?? [] };
      // that of others, of which only they can read anything
      if (fields.content.length + fields.summary.length === 0) return undefined;
      const id = idFor(response, given.type, index);
      return { ...fields, id, type: given.type, status: status ?? "completed" };
    }
    case "item_reference": {
      const found = await find(given.id);
      return { ...found, id: idFor(response, found.type, index) };
    }
    case "compaction":
      return { ...given, id: idFor(response, given.type, index) };
    case "function_call":
    case "function_call_output":
      return {
        ...given,
        id: idFor(response, given.type, index),
        status: given.status ?? "completed",
      };
    default: {
      const { role, content } = given;
      return message(role, content, idFor(response, "message", index));
    }
  }
}

type Message = Extract<InputItem, { role: string }>;

function message(role: Message["role"], content: Message["content"], id: string): Item {
  const texts: readonly Text[] = Array.isArray(content)
    ? content.map((part) => part.type === "refusal" ? part.refusal : part.text)
    : [content];
  const fields = { id, type: "message", status: "completed" } as const;
  if (role !== "assistant") {
    return { ...fields, role, content: texts.map((text) => ({ type: "input_text", text })) };
  }
  const told = texts.map((text) => ({
    ...{ type: "output_text" as const, text },
    ...{ annotations: [], logprobs: [] },
  }));
  return { ...fields, role, content: told };
}

/** What a request goes on from, what it puts in, and both. */
export interface RequestItems {
  readonly earlier: Earlier;
  readonly given: readonly Item[];
  readonly items: readonly PlacedItem[];
}

/**
 * @param id of the response that is made of it
 * @throws {ApiError} 400 or 404 for what is not there
 */
export async function readItems(
  kept: KeptResponses | undefined,
  body: CountRequest,
  id: string,
): Promise<RequestItems> {
  const { earlier, at } = await earlierOf(kept, body);
  const given = await readInput(body.input, id, async (item, at) => {
    if (kept !== undefined) return await kept.item(item, at);
    throw invalid(at, `Invalid '${at}': this server keeps no responses. Send the item itself.`);
  });
  const before = earlier.items.map((item) => ({ item, at }));
  const items = [...before, ...given].map((placed) => opened(kept, placed));
  return { earlier, given: given.map(({ item }) => item), items };
}

/** With what a compaction says. @throws {ApiError} 400 where it cannot be read */
function opened(kept: KeptResponses | undefined, { item, at }: PlacedItem): PlacedItem {
  if (item.type !== "compaction") return { item, at };
  const summary = kept?.summaryOf(item.encrypted_content);
  if (summary !== undefined) return { item, at, summary };
  const param = at.startsWith("input") ? `${at}.encrypted_content` : at;
  throw invalid(
    param,
    `Invalid '${param}': no compaction that this server made for this tenant. Send the items that it ` +
      "stands for, or compact them again.",
    "invalid_encrypted_content",
  );
}

async function earlierOf(
  kept: KeptResponses | undefined,
  { previous_response_id: previous, conversation }: Pick<CountRequest, EarlierField>,
): Promise<{ readonly earlier: Earlier; readonly at: EarlierField }> {
  if (previous && conversation) {
    throw invalid(
      "conversation",
      "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Send one of them.",
    );
  }
  const at = conversation ? "conversation" : "previous_response_id";
  if (!previous && !conversation) return { earlier: NOTHING_EARLIER, at };
  if (kept === undefined) {
    throw invalid(
      at,
      `Invalid '${at}': this server keeps no responses. Send all items in 'input'.`,
    );
  }
  if (previous) return { earlier: await kept.upTo(previous), at };
  return { earlier: await kept.conversation(conversationId(conversation) ?? ""), at };
}

type EarlierField = "previous_response_id" | "conversation";

/** The id of the conversation that a request names, either way. */
export function conversationId(
  conversation: CountRequest["conversation"],
): string | undefined {
  return typeof conversation === "string" ? conversation : conversation?.id;
}
