/** What a request puts in, as items that can be kept: whole, with ids, without reasoning. */
import type { Text } from "../../../src/checkpoint/text/prompt.ts";
import { type InputItem, type Item, itemId } from "./items.ts";
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
    case "reasoning":
      return undefined;
    case "item_reference": {
      const found = await find(given.id);
      return { ...found, id: idFor(response, found.type, index) };
    }
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
