/**
 * A response between what it answers and what is kept of it: items and the rest as JSON, without log
 * probabilities. Trap: a long text may be bytes, which `JSON.stringify` alone would write as numbers.
 */
import { isText, stringOf } from "../../../../src/checkpoint/text/prompt.ts";
import type {
  ResponseEnd,
  ResponseLinks,
  StoredResponse,
} from "../../../../adapters/store/store.ts";
import type { ResponseBody } from "../answer_schema.ts";
import type { Item, OutputItem } from "../items.ts";

/** What a response goes on from: others, or a conversation. */
export interface Earlier {
  readonly items: readonly Item[];
  /** Of the responses, the first one first. */
  readonly ids: readonly string[];
  /** The conversation's id, to which the response is added. */
  readonly conversation?: string;
}

export const NOTHING_EARLIER: Earlier = { items: [], ids: [] };

/** Of what a response is made. */
export interface Asked {
  readonly given: readonly Item[];
  readonly earlier: Earlier;
}

/** JSON of items, or of what has some, whose long texts may be bytes. */
export function itemsText(items: object): string {
  return JSON.stringify(items, (_, value: unknown) => isText(value) ? stringOf(value) : value);
}

export function saidOf(
  { output }: ResponseBody,
  { given, earlier: { conversation } }: Asked,
): ResponseLinks["said"] {
  if (conversation === undefined) return undefined;
  const items = [...given, ...output.map(bare)];
  return { conversation, items: items.map((item) => ({ id: item.id, body: itemsText(item) })) };
}

export function rowText({ output, ...body }: ResponseBody): ResponseEnd {
  return { output: JSON.stringify(output.map(bare)), body: JSON.stringify(body) };
}

function bare(item: OutputItem): OutputItem {
  if (item.type !== "message") return item;
  return { ...item, content: item.content.map((part) => ({ ...part, logprobs: [] })) };
}

/** A stored response as it was answered. */
export function storedText({ body, output }: Pick<StoredResponse, "body" | "output">): string {
  return `${body.slice(0, -1)},"output":${output}}`;
}

/** What whoever ran a response never said of it. */
const LOST = {
  status: "failed",
  error: {
    code: "server_error",
    message: "The server that ran this response ended before it did. Please ask again.",
  },
} as const;

/** Whether whoever ran it is gone. */
export function isLost({ runningUntil }: Pick<StoredResponse, "runningUntil">): boolean {
  return runningUntil !== null && runningUntil <= Date.now();
}

export function lostText(body: string): string {
  return JSON.stringify({ ...JSON.parse(body) as object, ...LOST });
}
