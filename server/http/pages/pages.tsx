/**
 * Pages for whoever opens the server's address: `/` says what runs here and how to begin, `/docs` shows
 * the API's description. All that they load comes from this server.
 */
import type { Child } from "hono/jsx";
import type { JSX } from "hono/jsx/jsx-runtime";
import { raw } from "hono/html";
import { createHash } from "node:crypto";
import swaggerDirectory from "swagger-ui-dist/absolute-path.js";
import { baseName } from "../../generate/model_name.ts";
import type { App, ServerContext } from "../../context.ts";

/** Registers the pages and their assets, open to everyone: nothing of a tenant is on them. */
export function registerPages(app: App, context: ServerContext, mode: "open" | "keys"): void {
  const own = (file: string) => new URL(file, import.meta.url);
  const swagger = (file: string) => `${swaggerDirectory()}/${file}`;
  const css = "text/css; charset=utf-8";
  const script = "text/javascript; charset=utf-8";
  const style = asset(app, "page.css", css, own("page.css"));
  const docsStyle = asset(app, "swagger-ui.css", css, swagger("swagger-ui.css"));
  const bundle = asset(app, "swagger-ui.js", script, swagger("swagger-ui-bundle.js"));
  const start = asset(app, "start.js", script, own("docs_start.js"));
  asset(app, "icon.svg", "image/svg+xml", own("../../console/assets/icon.svg"));
  app.get("/", (c) => {
    const { origin } = new URL(c.req.url);
    return c.html(<Home context={context} mode={mode} origin={origin} style={style} />);
  });
  app.get("/docs", (c) =>
    c.html(
      <Document title="API" styles={[docsStyle]} scripts={[bundle, start]}>
        <div id="docs"></div>
        <noscript>
          This page needs JavaScript; <a href="/openapi.json">/openapi.json</a> is what it shows.
        </noscript>
      </Document>,
    ));
}

/** Serves a file, read when it is first asked for. */
function asset(app: App, name: string, type: string, file: URL | string): string {
  let content: Promise<Uint8Array<ArrayBuffer>> | undefined;
  const path = `/docs/${name}`;
  app.get(path, async (c) => {
    const bytes = await (content ??= Deno.readFile(file));
    const tag = `"${createHash("sha256").update(bytes).digest("hex").slice(0, 16)}"`;
    const headers = { "content-type": type, "cache-control": "no-cache", etag: tag };
    const known = c.req.header("if-none-match") === tag;
    return new Response(known ? null : bytes, { status: known ? 304 : 200, headers });
  });
  return path;
}

interface DocumentOptions {
  readonly title: string;
  readonly styles: readonly string[];
  readonly scripts?: readonly string[];
  readonly children?: Child;
}

function Document({ title, styles, scripts = [], children }: DocumentOptions): JSX.Element {
  return (
    <>
      {raw("<!doctype html>")}
      <html lang="en">
        <head>
          <meta charset="utf-8" />
          <meta name="viewport" content="width=device-width, initial-scale=1" />
          <title>{title} · lembas</title>
          <link rel="icon" href="/docs/icon.svg" type="image/svg+xml" />
          {styles.map((sheet) => <link rel="stylesheet" href={sheet} />)}
          {scripts.map((source) => <script src={source} defer></script>)}
        </head>
        <body>{children}</body>
      </html>
    </>
  );
}

interface HomeOptions {
  readonly context: ServerContext;
  readonly mode: "open" | "keys";
  readonly origin: string;
  readonly style: string;
}

/** With keys it names no model: whoever has none is to learn nothing. */
function Home({ context, mode, origin, style }: HomeOptions): JSX.Element {
  const { model, engine, options, admin } = context;
  const open = mode === "open";
  const named = open ? baseName(model) : "MODEL";
  return (
    <Document title="lembas" styles={[style]}>
      <h1>lembas {open && options.version}</h1>
      <p class="lead">
        {open
          ? `${named} in ${model.dtype} on ${model.device}, ${engine.maxContext} tokens of context.`
          : "One base model for many tenants. Requests need an API key."}
      </p>
      <ul>
        {admin !== undefined && (
          <li>
            <a href="/console">Console</a>: traffic, tenants and keys, cores, jobs, a playground
          </li>
        )}
        <li>
          <a href="/docs">API</a>: every endpoint, to read and to try (
          <a href="/openapi.json">OpenAPI</a>)
        </li>
        {open && (
          <li>
            <a href="/v1/models">Models</a>: the base and its adapters
          </li>
        )}
      </ul>
      <p>A first request; any client of OpenAI's API works with the base URL {origin}/v1:</p>
      <pre>{firstRequest(origin, named, open)}</pre>
    </Document>
  );
}

function firstRequest(origin: string, model: string, open: boolean): string {
  const lines = [
    `curl ${origin}/v1/chat/completions`,
    ...(open ? [] : ['-H "authorization: Bearer $KEY"']),
    "-H 'content-type: application/json'",
    `-d '{"model": "${model}", "messages": [{"role": "user", "content": "Hello"}]}'`,
  ];
  return lines.join(" \\\n  ");
}
