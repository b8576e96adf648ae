// deno-lint-ignore-file camelcase -- names of the wire format
/** `/v1/responses/{response_id}`: stored responses, read, heard, cancelled and deleted. */
import { z } from "@hono/zod-openapi";
import { pageOf } from "../../../../adapters/store/pages.ts";
import type { App, AppContext, ServerContext } from "../../../context.ts";
import { invalid } from "../../../errors.ts";
import { get, list } from "../../endpoint.ts";
import {
  deletedSchema,
  itemListSchema,
  itemsQuerySchema,
  responseEventSchema,
  responseSchema,
  retrieveQuerySchema,
} from "../answer_schema.ts";
import { type BackgroundResponses, cancelledResponse } from "../background.ts";
import { KeptResponses } from "./kept.ts";
import { replay, streamOf } from "./replay.ts";
import { itemsText, storedText } from "./rows.ts";

const PATH = "/v1/responses/{response_id}";
/** Items of a page, as OpenAI has it. */
const LISTED = 20;

const common = {
  tag: "responses",
  params: z.object({ response_id: z.string() }),
  // not input_tokens and compact, which are beside them
  patterns: { response_id: "[^ic/][^/]*" },
  scopes: ["infer"],
} as const;

export function registerStored(
  app: App,
  context: ServerContext,
  background: BackgroundResponses,
): void {
  list(app, {
    ...common,
    method: "get",
    path: PATH,
    summary: "A stored response.",
    query: retrieveQuerySchema,
    ok: {
      description: "The response, without log probabilities; its events where `stream` is true.",
      json: responseSchema,
      events: responseEventSchema,
    },
  }, async (c, { stream, starting_after: after = -1, include_obfuscation }) => {
    const kept = keptOf(context, c);
    const found = await kept.find(idOf(c));
    if (stream !== "true") return json(storedText(found));
    const reading = { after, padded: include_obfuscation === "true" };
    const log = background.log(found.id);
    return streamOf(log?.read(reading) ?? await replay(kept, found, reading));
  });
  get(app, {
    ...common,
    method: "delete",
    path: PATH,
    summary: "Deletes a stored response; what goes on from it cannot be gone on from any more.",
    ok: { description: "That it is deleted.", json: deletedSchema },
  }, async (c) => {
    const id = idOf(c);
    await keptOf(context, c).remove(id);
    background.stop(id);
    return c.json({ id, object: "response", deleted: true });
  });
  list(app, {
    ...common,
    method: "get",
    path: `${PATH}/input_items`,
    summary: "The items that a stored response was asked with, without those before it.",
    query: itemsQuerySchema,
    ok: { description: "A page of items, the last one first.", json: itemListSchema },
  }, async (c, { after, limit = LISTED, order = "desc" }) => {
    const kept = keptOf(context, c);
    const all = await kept.inputOf(await kept.find(idOf(c)));
    const { items, hasMore } = pageOf(all, { after, limit, order });
    const ids = { first_id: items[0]?.id ?? null, last_id: items.at(-1)?.id ?? null };
    const rest = JSON.stringify({ object: "list", ...ids, has_more: hasMore });
    return json(`${rest.slice(0, -1)},"data":${itemsText(items)}}`);
  });
  registerCancel(app, context, background);
}

function registerCancel(app: App, context: ServerContext, background: BackgroundResponses): void {
  get(app, {
    ...common,
    method: "post",
    path: `${PATH}/cancel`,
    summary: "Cancels a response that runs in the background.",
    ok: {
      description: "The response, cancelled; again, where it was before.",
      json: responseSchema,
    },
    errors: [400],
  }, async (c) => {
    const kept = keptOf(context, c);
    const found = await kept.find(idOf(c));
    const body = await kept.bodyOf(found);
    if (found.runningUntil !== null) {
      if (await kept.end(cancelledResponse({ ...body, output: [] }))) background.stop(found.id);
    } else if (body.status !== "cancelled") {
      throw notCancellable(found.id, body);
    }
    return json(storedText(await kept.find(found.id)));
  });
}

function notCancellable(
  id: string,
  { background, status }: { readonly background: boolean; readonly status: string },
) {
  return invalid(
    "response_id",
    background
      ? `Cannot cancel '${id}': its status is '${status}', and only one that still runs can be.`
      : `Cannot cancel '${id}': only a response with 'background' can be cancelled. To cancel ` +
        "another one while it runs, close its connection.",
  );
}

function idOf(c: AppContext): string {
  return c.req.param("response_id") ?? "";
}

function keptOf(context: ServerContext, c: AppContext): KeptResponses {
  const kept = KeptResponses.of(context, c);
  if (kept === undefined) throw new RangeError("internal: a server that keeps no responses");
  return kept;
}

function json(text: string): Response {
  return new Response(text, { headers: { "content-type": "application/json" } });
}
