/**
 * Registers a route with its description, so that one schema both validates the body and appears
 * in `/openapi.json`. `createRoute` of zod-openapi would read bodies by itself, without our limits
 * and thread, and its issues do not carry the wrong value, which our messages show.
 */
import type { z } from "@hono/zod-openapi";
import type { Scope } from "../../adapters/store/store.ts";
import { invalid, validationError } from "../errors.ts";
import { checkScope } from "../access/access.ts";
import type { App, AppContext } from "../context.ts";
import { errorSchema } from "./schema/common.ts";

/** A success answer: JSON by schema, or another media type. */
export interface Answer {
  readonly description: string;
  readonly json?: z.ZodType;
  /** Media types whose bodies are plain strings. */
  readonly text?: readonly string[];
  /** The data of each event of a stream, `text/event-stream`. */
  readonly events?: z.ZodType;
}

export interface Route<B extends z.ZodType | undefined = z.ZodType | undefined> {
  readonly method: "get" | "post" | "delete";
  /** OpenAPI's notation: `/v1/models/{model}`. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly body?: B;
  /** Takes a body with arguments that the schema has not, unless the server is strict. */
  readonly lenient?: boolean;
  readonly params?: z.ZodObject;
  /** Regular expressions of parameters that would else take a path beside them for their own. */
  readonly patterns?: Readonly<Record<string, string>>;
  /** What the query string may say. */
  readonly query?: z.ZodObject;
  /** A multipart body's fields, for the description; a route that has them reads them itself. */
  readonly form?: z.ZodObject;
  readonly ok: Answer;
  /** Error statuses it may give beside those of every route. */
  readonly errors?: readonly number[];
  /** The body of its errors; default: OpenAI's. */
  readonly error?: z.ZodType;
  /** Answers without a key. */
  readonly open?: boolean;
  /** A key needs one of these scopes; default: it must be an administrator's. */
  readonly scopes?: readonly Scope[];
}

/** Routes for every key. */
export const ANY_SCOPE = ["infer", "train"] as const;

/** Registers a route without a JSON body, under its own method. */
export function get(
  app: App,
  route: Route<undefined>,
  handler: (c: AppContext) => Response | Promise<Response>,
): void {
  describe(app, route);
  app[route.method](honoPath(route), (c) => {
    admit(c, route);
    return handler(c);
  });
}

/** Registers a route whose query string `route.query` validates. */
export function list<Q extends z.ZodObject>(
  app: App,
  route: Route<undefined> & { readonly query: Q },
  handler: (c: AppContext, query: z.output<Q>) => Response | Promise<Response>,
): void {
  describe(app, route);
  app.get(honoPath(route), (c) => {
    admit(c, route);
    const { searchParams } = new URL(c.req.url);
    refuseNul(searchParams);
    return handler(c, validated(route.query, nestedFields(searchParams)));
  });
}

/** Databases take no text with a NUL. @throws {ApiError} 400 naming the first that has one */
function refuseNul(pairs: Iterable<readonly [string, string]>): void {
  for (const [key, value] of pairs) {
    if (`${key}${value}`.includes("\u0000")) {
      throw invalid(key, `Invalid '${key}': a query cannot have a NUL character.`);
    }
  }
}

/** `a=1&m[k]=v` → `{ a: "1", m: { k: "v" } }`. */
export function nestedFields(
  pairs: Iterable<readonly [string, string]>,
): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const [key, value] of pairs) {
    const [, name, inner] = /^([^[]+)\[([^\]]*)\]$/.exec(key) ?? [];
    if (name === undefined || inner === undefined) fields[key] = value;
    else fields[name] = { ...objectOr(fields[name]), [inner]: value };
  }
  return fields;
}

function objectOr(value: unknown): object {
  return typeof value === "object" && value !== null ? value : {};
}

/** Registers a route whose JSON body `route.body` validates. */
export function post<B extends z.ZodObject>(
  app: App,
  route: Route<B> & { readonly body: B },
  handler: (c: AppContext, body: z.output<B>) => Response | Promise<Response>,
): void {
  describe(app, route);
  app.post(honoPath(route), async (c) => {
    admit(c, route);
    const value = await c.get("bodies").read(c.req.raw);
    if (route.lenient) c.get("unknown").note(c.get("notes"), route.body, value);
    return handler(c, validated(route.body, value));
  });
}

/** A value as the schema reads it. @throws {ApiError} 400 naming the field */
export function validated<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const result = schema.safeParse(value, { reportInput: true });
  if (!result.success) throw validationError(result.error.issues);
  return result.data;
}

/** Before a body is read. @throws {ApiError} 403 */
function admit(c: AppContext, { open, scopes = [] }: Pick<Route, "open" | "scopes">): void {
  if (!open) checkScope(c.get("principal"), scopes);
}

function honoPath({ path, patterns = {} }: Pick<Route, "path" | "patterns">): string {
  return path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const pattern = patterns[name];
    return pattern === undefined ? `:${name}` : `:${name}{${pattern}}`;
  });
}

const ERROR_TEXTS: Readonly<Record<number, string>> = {
  400: "The request is malformed or asks for what is not supported.",
  401: "The API key is missing or not good.",
  403: "The API key lacks a scope that this needs.",
  404: "There is no such thing for the tenant of this key.",
  409: "It is in use.",
  413: "The body is too large.",
  415: "The body is not JSON.",
  424: "The session that it needs is not named.",
  429: "The queue is full; Retry-After says when to try again.",
  500: "The server failed; its log has the details under the request's id.",
  503: "The server is shutting down, or its store does not answer.",
};

function describe(app: App, route: Route): void {
  const statuses = new Set([
    ...(route.open ? [] : [401, 403, 404, 503]),
    ...(route.body || route.form ? [400, 413, 415] : []),
    ...(route.body ? [429] : []),
    ...(route.query ? [400] : []),
    ...(route.errors ?? []),
    500,
  ]);
  const errors = [...statuses].sort().map((status) => [status, {
    description: ERROR_TEXTS[status] ?? "",
    content: { "application/json": { schema: route.error ?? errorSchema } },
  }]);
  const { json, events, text = [] } = route.ok;
  const content = {
    ...(json && { "application/json": { schema: json } }),
    ...(events && { "text/event-stream": { schema: events } }),
    ...Object.fromEntries(text.map((type) => [type, { schema: { type: "string" as const } }])),
  };
  app.openAPIRegistry.registerPath({
    method: route.method,
    path: route.path,
    tags: [route.tag],
    summary: route.summary,
    security: route.open ? [] : [{ bearer: [] }, { apiKey: [] }],
    request: {
      ...(route.params && { params: route.params }),
      ...(route.query && { query: route.query }),
      ...(route.body && {
        body: { required: true, content: { "application/json": { schema: route.body } } },
      }),
      ...(route.form && {
        body: { required: true, content: { "multipart/form-data": { schema: route.form } } },
      }),
    },
    responses: {
      200: {
        description: route.ok.description,
        ...(Object.keys(content).length > 0 && { content }),
      },
      ...Object.fromEntries(errors),
    },
  });
}
