/** `/health`, `/version` and `/metrics`: what machines ask, never touching the model. */
import type { ServerContext } from "../context.ts";
import { ANY_SCOPE, type App, get } from "../endpoint.ts";
import { shuttingDown } from "../errors.ts";
import { versionSchema } from "../schema/admin.ts";

export function registerHealth(app: App, context: ServerContext): void {
  get(app, {
    method: "get",
    path: "/health",
    tag: "server",
    summary: "200 while the server takes requests, 503 while it shuts down.",
    ok: { description: "Healthy; no body." },
    errors: [503],
    open: true,
  }, () => {
    if (context.lifecycle.draining) throw shuttingDown();
    return new Response(null, { status: 200 });
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
  }, async () => {
    const { contentType, text } = await context.metrics.expose();
    return new Response(text, { headers: { "content-type": contentType } });
  });
}
