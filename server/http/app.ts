/**
 * The HTTP application: its routes, and around each request the checks of site and key, a request
 * id, a line in the access log, and errors in the shape of the API that was asked.
 */
import { registerOpenApi } from "./openapi.ts";
import { OpenAPIHono } from "@hono/zod-openapi";
import { routePath } from "hono/route";
import { type Access, accessOf, authenticate, type Principal } from "../access/access.ts";
import { registerConsole } from "../console/console.ts";
import {
  type App,
  type AppContext,
  type AppEnv,
  batchCallOf,
  type ServerContext,
  type StreamEnd,
} from "../context.ts";
import { ApiError, toApiError } from "../errors.ts";
import { logFailure } from "../telemetry/log.ts";
import { JsonBodies } from "./json_body.ts";
import { reportsLoad } from "./load_report.ts";
import { registerBatches } from "./batches/routes.ts";
import { registerStoredChats } from "./chats/routes.ts";
import { registerAdapters } from "./routes/adapters.ts";
import { registerAdmin } from "./routes/admin.ts";
import { registerChat } from "./routes/chat.ts";
import { registerCompletions } from "./routes/completions.ts";
import { registerCores } from "./routes/cores.ts";
import { registerFiles } from "./routes/files.ts";
import { registerFineTuning } from "./routes/fine_tuning.ts";
import { registerHealth } from "./routes/health.ts";
import { registerSageMakerAdapters } from "./sagemaker/adapters.ts";
import { registerInvocations } from "./sagemaker/invocations.ts";
import { registerModels } from "./routes/models.ts";
import { registerEmbeddings } from "./embeddings/routes.ts";
import { registerScores } from "./embeddings/scores.ts";
import { refuseGeneration } from "./embeddings/generation.ts";
import { registerTokenize } from "./routes/tokenize.ts";
import { registerLlama } from "./llama/routes.ts";
import { registerLorax } from "./lorax/routes.ts";
import { isMessagesPath, messageErrorResponse } from "./messages/errors.ts";
import { registerMessages } from "./messages/routes.ts";
import { isResponsesPath, responseError } from "./responses/errors.ts";
import { registerConversations } from "./conversations/routes.ts";
import { registerResponses } from "./responses/routes.ts";
import { registerPages } from "./pages/pages.tsx";
import { routedPath } from "./paths.ts";
import { siteGuards } from "./sites.ts";
import { registerUploads } from "./uploads/routes.ts";
import { IGNORED_HEADER, UnknownArguments } from "./unknown_arguments.ts";

/**
 * Paths that answer without a key: probes, the first page, the API's description, and the console,
 * which has its own sign-in.
 */
const OPEN_PATHS = /^\/(health|ping|ready|openapi\.json|console|docs)?$|^\/(console|docs)\//;
/** What `--metrics-access` opens. */
const SCRAPED: ReadonlySet<string> = new Set(["/metrics", "/version", "/load"]);
/** Paths that probes ask all the time. */
const PROBES: ReadonlySet<string> = new Set(["/health", "/ping", "/ready", "/metrics", "/load"]);

/**
 * The application over a loaded model. `app.request(…)` and `Deno.serve(app.fetch)` both work.
 */
export function createApp(context: ServerContext): App {
  const { rootPath } = context.options;
  const app = new OpenAPIHono<AppEnv>({ getPath: (request) => routedPath(request, rootPath) });
  const access = context.access ?? accessOf(context.options.apiKey);
  app.use(observe(context));
  const { allowedHosts = [], corsOrigins = [] } = context.options;
  app.use(...siteGuards({ mode: access.mode, allowedHosts, corsOrigins }));
  app.use(identify(context, access));
  app.use(reportsLoad(context));
  if (context.encoder === undefined) registerGeneration(app, context);
  else refuseGeneration(app, context);
  registerEmbeddings(app, context);
  registerScores(app, context);
  registerModels(app, context);
  registerAdapters(app, context);
  registerSageMakerAdapters(app, context);
  registerTokenize(app, context);
  if (context.tuning !== undefined) {
    const door = { access, lifecycle: context.lifecycle };
    registerFiles(app, context.tuning, door);
    registerUploads(app, context.tuning, door);
    registerFineTuning(app, context, context.tuning);
    if (context.batches !== undefined) {
      registerBatches(app, context.batches, { ...context, tuning: context.tuning });
    }
  }
  if (context.admin !== undefined) {
    registerAdmin(app, { ...context.admin, base: context.model.digest });
    const { cores, factors } = context.admin.store;
    const { model: { digest: base }, adapters } = context;
    registerCores(app, { cores, factors, base, adapters, admit: access.admit });
    registerConsole(app, context, context.admin);
  }
  registerHealth(app, context);
  registerOpenApi(app, context);
  registerPages(app, context, access.mode);
  app.notFound((c) => answerTo(c, unknownUrl(app, c)));
  app.onError((error, c) => {
    const failure = toApiError(error, c.get("requestId"));
    logFailure(context.log, c.get("requestId"), failure);
    return answerTo(c, failure);
  });
  return app;
}

/** What a model that writes answers. */
function registerGeneration(app: App, context: ServerContext): void {
  registerChat(app, context);
  registerCompletions(app, context);
  registerInvocations(app, context);
  registerMessages(app, context);
  registerLlama(app, context);
  registerLorax(app, context);
  // behind all other paths below its own, as an id may be anything
  if (context.responses !== undefined) registerStoredChats(app, context);
  registerResponses(app, context);
  if (context.responses !== undefined) registerConversations(app, context);
}

/** An error in the shape of the API whose path it is. */
function answerTo(c: AppContext, failure: ApiError): Response {
  const { path } = c.req;
  if (isMessagesPath(path)) return messageErrorResponse(failure, c.get("requestId"));
  return (isResponsesPath(path) ? responseError(failure) : failure).response();
}

type Next = () => Promise<void>;

/** Gives each request an id, a span and, at the end of its answer, a line in the log. */
function observe(context: ServerContext): (c: AppContext, next: Next) => Promise<void> {
  const bodies = new JsonBodies(context.options.maxBody, context.jsonThread);
  const unknown = new UnknownArguments(context.options.strict ?? false, context.log);
  return async (c, next) => {
    const start = performance.now();
    const id = requestId(c.req.header("x-request-id"));
    c.set("requestId", id);
    c.set("notes", {});
    c.set("trace", context.tracing?.begin(c.req.raw.headers));
    c.set("bodies", bodies);
    c.set("unknown", unknown);
    const end = context.lifecycle.begin();
    const finish = (how?: StreamEnd) => {
      end();
      logAccess(context, c, start, how);
    };
    await next();
    c.res.headers.set("x-request-id", id);
    if (isMessagesPath(c.req.path)) c.res.headers.set("request-id", id);
    const { ended, headers = {}, ignored } = c.get("notes");
    if (ignored !== undefined) c.res.headers.set(IGNORED_HEADER, ignored);
    for (const [name, value] of Object.entries(headers)) c.res.headers.set(name, value);
    if (ended === undefined) finish();
    else ended.then(finish);
  };
}

/** A client's own id is kept where it is short and harmless in a log line. */
function requestId(given: string | undefined): string {
  if (given !== undefined && /^[\w.:-]{1,128}$/.test(given)) return given;
  return `req_${crypto.randomUUID().replaceAll("-", "")}`;
}

function logAccess(
  context: ServerContext,
  c: AppContext,
  start: number,
  end: StreamEnd | undefined,
): void {
  const { status } = c.res;
  const { model, promptTokens, completionTokens } = c.get("notes");
  const { path, method } = c.req;
  // a request that was refused has none
  const principal: Principal | undefined = c.get("principal");
  context.metrics.response(status, principal?.tenant);
  endTrace(c, principal);
  const quiet = batchCallOf(c) !== undefined || status < 400 && PROBES.has(path);
  context.log[quiet ? "debug" : "info"](`${method} ${path}`, {
    status,
    ms: performance.now() - start,
    model,
    prompt: promptTokens,
    output: completionTokens,
    end: end === "done" ? undefined : end,
    tenant: principal?.tenant,
    key: principal?.keyId ?? undefined,
    id: c.get("requestId"),
    trace: c.get("trace")?.traceId,
  });
}

function endTrace(c: AppContext, principal: Principal | undefined): void {
  const { model, promptTokens, completionTokens } = c.get("notes");
  const route = routePath(c, -1);
  c.get("trace")?.end({
    method: c.req.method,
    route: route.endsWith("*") ? undefined : route,
    path: c.req.path,
    status: c.res.status,
    requestId: c.get("requestId"),
    tenant: principal?.tenant,
    model,
    promptTokens,
    completionTokens,
  });
}

/** Gives each request its principal. */
function identify(
  { options }: ServerContext,
  access: Access,
): (c: AppContext, next: Next) => Promise<void> {
  const openMetrics = options.metricsAccess === "open";
  const isOpen = (path: string) => OPEN_PATHS.test(path) || openMetrics && SCRAPED.has(path);
  return async (c, next) => {
    if (!isOpen(c.req.path)) {
      const principal = batchCallOf(c)?.principal;
      c.set("principal", principal ?? await authenticate(access, c.req.raw.headers));
    }
    await next();
  };
}

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

/** 405 where the path exists under another method, else 404. */
function unknownUrl(app: App, c: AppContext): ApiError {
  const { method, path } = c.req;
  const allowed = METHODS.filter((other) => other !== method && hasRoute(app, other, path));
  if (allowed.length === 0) {
    return new ApiError(404, `Unknown request URL: ${method} ${path}. Please check the URL.`, {
      code: "unknown_url",
    });
  }
  return new ApiError(
    405,
    `Not allowed to ${method} on ${path}: use ${allowed.join(" or ")}.`,
    { code: "method_not_allowed", headers: { allow: allowed.join(", ") } },
  );
}

/** Middleware matches every path; a route is a match registered under the method itself. */
function hasRoute(app: App, method: string, path: string): boolean {
  const [matches] = app.router.match(method, path);
  return matches.some(([[, route]]) => route.method === method);
}
