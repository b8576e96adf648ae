/**
 * `/health`, `/ready`, `/version` and `/metrics`: what probes and collectors ask. None of them
 * waits for the model.
 */
import { fulfilledWithin } from "../../../src/util/time.ts";
import type { App, ReadinessCheck, ServerContext } from "../../context.ts";
import { ANY_SCOPE, get } from "../endpoint.ts";
import { ApiError, shuttingDown } from "../../errors.ts";
import { readySchema, versionSchema } from "../schema/admin.ts";

/** Milliseconds in which a check must answer: less than probes wait. */
const PATIENCE = 800;

export function registerHealth(app: App, context: ServerContext): void {
  get(app, {
    method: "get",
    path: "/health",
    tag: "server",
    summary: "200 while the process answers, whatever else is the matter: a liveness probe.",
    ok: { description: "Alive; no body." },
    open: true,
  }, () => new Response(null, { status: 200 }));
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
  get(app, {
    method: "get",
    path: "/version",
    tag: "server",
    summary: "The version of lembas.",
    ok: { description: "The version.", json: versionSchema },
    scopes: ANY_SCOPE,
  }, (c) => c.json({ version: context.options.version }));
  get(app, {
    method: "get",
    path: "/metrics",
    tag: "server",
    summary: "Prometheus metrics, under vLLM's names.",
    ok: { description: "Prometheus' text format.", text: ["text/plain"] },
    open: context.options.metricsAccess === "open",
  }, async () => {
    const { contentType, text } = await context.metrics.expose();
    return new Response(text, { headers: { "content-type": contentType } });
  });
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
