/** Questions to an application over a fake engine, and readings of its answers; no test. */
import type { z } from "@hono/zod-openapi";
import { assertEquals } from "@std/assert";
import { createApp } from "../../server/http/app.ts";
import type { ServerContext } from "../../server/context.ts";
import { errorSchema } from "../../server/http/schema/common.ts";

export type Json = Record<string, unknown>;

export const HELLO = { model: "tiny", messages: [{ role: "user", content: "hi" }] };

/** Posts a body: JSON, or a text as it is. */
export async function post(
  context: ServerContext,
  path: string,
  body: unknown,
  headers: HeadersInit = {},
): Promise<Response> {
  return await createApp(context).request(path, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    headers: { "content-type": "application/json", ...Object.fromEntries(new Headers(headers)) },
  });
}

export type ErrorAnswer = z.output<typeof errorSchema>["error"] & { readonly status: number };

/** The error of an answer, with its status. */
export async function errorOf(response: Response): Promise<ErrorAnswer> {
  const body = errorSchema.parse(await response.json());
  return { status: response.status, ...body.error };
}

/** The JSON of a stream's events, which ends as OpenAI's do. */
export async function events(response: Response): Promise<Json[]> {
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const blocks = (await response.text()).split("\n\n");
  assertEquals(blocks.pop(), "");
  assertEquals(blocks.pop(), "data: [DONE]");
  return blocks.map((block) => JSON.parse(block.replace(/^data: /, "")));
}
