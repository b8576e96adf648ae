/**
 * `/openapi.json`: the description that routes make of themselves (`endpoint.ts`), with streams as
 * events whose data is JSON (as OpenAPI 3.2 has it, section 4.14.4).
 */
import { API_KEY_HEADER } from "../access/access.ts";
import type { App, ServerContext } from "../context.ts";

type Document = Record<string, unknown>;

export function registerOpenApi(app: App, context: ServerContext): void {
  app.openAPIRegistry.registerComponent("securitySchemes", "bearer", {
    type: "http",
    scheme: "bearer",
  });
  app.openAPIRegistry.registerComponent("securitySchemes", "apiKey", {
    type: "apiKey",
    in: "header",
    name: API_KEY_HEADER,
  });
  const { rootPath } = context.options;
  let document: Document | undefined;
  app.get("/openapi.json", (c) => {
    document ??= withEvents(app.getOpenAPI31Document({
      openapi: "3.1.0",
      info: {
        title: "lembas",
        version: context.options.version,
        description: "One frozen base model, many tenants: OpenAI's API and vLLM's extras.",
      },
      ...(rootPath !== undefined && { servers: [{ url: rootPath }, { url: "/" }] }),
    }));
    return c.json(document);
  });
}

/** Streams' schemas are those of what an event's data is: here they become those of the events. */
function withEvents(described: object): Document {
  const document: Document = structuredClone({ ...described });
  for (const operation of operationsOf(document)) {
    for (const answer of Object.values(operation.responses ?? {})) {
      const stream = answer.content?.["text/event-stream"];
      if (stream !== undefined) stream.schema = eventOf(stream.schema);
    }
  }
  return document;
}

interface Operation {
  readonly responses?: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { schema?: unknown }>> }>
  >;
}

function operationsOf({ paths }: Document): readonly Operation[] {
  return Object.values((paths ?? {}) as Record<string, object>)
    .flatMap((methods) => Object.values(methods) as Operation[]);
}

function eventOf(data: unknown): object {
  const json = { type: "string", contentMediaType: "application/json", contentSchema: data };
  const end = { type: "string", const: "[DONE]" };
  return {
    type: "object",
    required: ["data"],
    properties: { event: { type: "string" }, data: { anyOf: [json, end] } },
  };
}
