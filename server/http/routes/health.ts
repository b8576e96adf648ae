/**
 * `/health`, `/ping`, `/ready`, `/version`, `/load`, `/server_info` and `/metrics`: what probes and
 * collectors ask. None of them waits for the model.
 */
import { fulfilledWithin } from "../../../src/util/time.ts";
import type { App, ReadinessCheck, ServerContext } from "../../context.ts";
import { ANY_SCOPE, get } from "../endpoint.ts";
import { ApiError, shuttingDown } from "../../errors.ts";
import { loadSchema, readySchema, serverInfoSchema, versionSchema } from "../schema/admin.ts";

/** Milliseconds in which a check must answer: less than probes wait. */
const PATIENCE = 800;

export function registerHealth(app: App, context: ServerContext): void {
  const scraped = context.options.metricsAccess === "open";
  registerProbes(app, context);
  registerInfo(app, context);
  get(app, {
    method: "get",
    path: "/version",
    tag: "server",
    summary: "The version of lembas.",
    ok: { description: "The version.", json: versionSchema },
    open: scraped,
    scopes: ANY_SCOPE,
  }, (c) => c.json({ version: context.options.version }));
  get(app, {
    method: "get",
    path: "/metrics",
    tag: "server",
    summary: "Prometheus metrics, under vLLM's names.",
    ok: { description: "Prometheus' text format.", text: ["text/plain"] },
    open: scraped,
  }, async () => {
    const { contentType, text } = await context.metrics.expose();
    return new Response(text, { headers: { "content-type": contentType } });
  });
}

function registerProbes(app: App, context: ServerContext): void {
  get(app, {
    method: "get",
    path: "/health",
    tag: "server",
    summary: "200 while the process answers, whatever else is the matter: a liveness probe.",
    ok: { description: "Alive; no body." },
    open: true,
  }, () => new Response(null, { status: 200 }));
  for (const method of ["get", "post"] as const) {
    get(app, {
      method,
      path: "/ping",
      tag: "server",
      summary: "What /health is, by SageMaker's name.",
      ok: { description: "Alive; no body." },
      open: true,
    }, () => new Response(null, { status: 200 }));
  }
  get(app, {
    method: "get",
    path: "/ready",
    tag: "server",
    summary: "200 while requests should come here: a readiness probe.",
    ok: { description: "The model is loaded, the store answers.", json: readySchema },
    errors: [503],
    open: true,
  }, async (c) => {
    if (context.lifecycle.draining) throw shuttingDown();
    await Promise.all((context.readiness ?? []).map(hold));
    return c.json({ status: "ready" });
  });
}

/** What vLLM tells of its load and its settings. */
function registerInfo(app: App, context: ServerContext): void {
  const { engine, model, options } = context;
  get(app, {
    method: "get",
    path: "/load",
    tag: "server",
    summary: "How many samples run and wait, for administrators and scrapers.",
    ok: { description: "The count.", json: loadSchema },
    open: options.metricsAccess === "open",
  }, (c) => {
    const { running, waiting, loading } = engine.stats();
    return c.json({ server_load: running + waiting + loading });
  });
  get(app, {
    method: "get",
    path: "/server_info",
    tag: "server",
    summary: "What runs here, for administrators.",
    ok: { description: "Version, model and limits.", json: serverInfoSchema },
  }, (c) =>
    c.json({
      version: options.version,
      model: model.root,
      served_model_name: model.served ?? [model.id],
      dtype: model.dtype,
      device: model.device,
      max_model_len: engine.maxContext,
      max_body_bytes: options.maxBody,
    }));
}

/** @throws {ApiError} 503 where a check fails, or does not answer in time */
async function hold({ name, check }: ReadinessCheck): Promise<void> {
  try {
    if (await fulfilledWithin(PATIENCE, check())) return;
    throw new Error(`no answer in ${PATIENCE} ms`);
  } catch (cause) {
    throw new ApiError(503, `Not ready: the ${name} does not answer.`, {
      code: "not_ready",
      headers: { "retry-after": "1" },
      cause,
    });
  }
}
