// deno-lint-ignore-file camelcase -- names of the wire format
/** `/adapters`: SageMaker's way to load and unload adapters; what happens is `/v1/load_lora_adapter`'s. */
import { z } from "@hono/zod-openapi";
import type { App, ServerContext } from "../../context.ts";
import { get, post, validated } from "../endpoint.ts";
import { loadAdapter, unloadAdapter } from "../routes/adapters.ts";

const addSchema = z.object({
  name: z.string().min(1).max(256),
  src: z.string().min(1).max(4096).openapi({ description: "As `lora_path` of load_lora_adapter." }),
  preload: z.boolean().nullish().openapi({ description: "Accepted and not used." }),
  pin: z.boolean().nullish().openapi({ description: "Accepted and not used." }),
}).openapi("SageMakerAdapter");
const paramsSchema = z.object({ name: z.string().min(1).max(256) });

const TEXT = { description: "What was done, as a sentence.", text: ["text/plain"] };

export function registerSageMakerAdapters(app: App, context: ServerContext): void {
  post(app, {
    method: "post",
    path: "/adapters",
    tag: "adapters",
    summary: "Loads an adapter, as /v1/load_lora_adapter does (SageMaker).",
    body: addSchema,
    lenient: true,
    ok: TEXT,
  }, async (c, { name, src }) => {
    const body = { lora_name: name, lora_path: src };
    return c.text(await loadAdapter(context, c.get("principal"), body));
  });
  get(app, {
    method: "delete",
    path: "/adapters/{name}",
    params: paramsSchema,
    tag: "adapters",
    summary: "Removes an adapter, as /v1/unload_lora_adapter does (SageMaker).",
    ok: TEXT,
    errors: [400],
  }, async (c) => {
    const { name } = validated(paramsSchema, c.req.param());
    return c.text(await unloadAdapter(context, c.get("principal"), name));
  });
}
