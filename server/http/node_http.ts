/**
 * `node:http` as a server of `fetch` handlers. It owns the translation of requests and responses and
 * one promise that `Deno.serve` (2.9) does not keep: a request's signal is aborted as soon as its
 * client is gone, also while the handler still thinks. (There, once head and body came in separate
 * packets, a lost client is noticed only after the response has begun.)
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { ApiError } from "./errors.ts";

export type FetchHandler = (request: Request) => Response | Promise<Response>;

/** A server that is not listening yet. */
export function createFetchServer(fetch: FetchHandler): Server {
  return createServer((incoming, outgoing) => {
    answer(fetch, incoming, outgoing).catch(() => outgoing.destroy());
  });
}

async function answer(
  fetch: FetchHandler,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const lost = new AbortController();
  outgoing.once("close", () => {
    if (!outgoing.writableFinished) lost.abort();
  });
  const request = toRequest(incoming, lost.signal);
  const response = request instanceof Response ? request : await fetch(request);
  if (outgoing.destroyed) {
    await response.body?.cancel();
    return;
  }
  await send(response, incoming, outgoing);
}

/** Milliseconds that a refused client has to stop sending. */
const LINGER_MS = 5000;

/** Methods of HTTP that no `Request` may have. */
const NO_REQUEST: ReadonlySet<string> = new Set(["TRACE", "TRACK", "CONNECT"]);

/** The request, or the answer to one that cannot be. */
function toRequest(incoming: IncomingMessage, signal: AbortSignal): Request | Response {
  const { method = "GET", url = "/", rawHeaders } = incoming;
  if (NO_REQUEST.has(method)) {
    const headers = { allow: "GET, POST, DELETE" };
    return new ApiError(405, `Not allowed to ${method}.`, { code: "method_not_allowed", headers })
      .response();
  }
  const headers = new Headers();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    headers.append(rawHeaders[i] ?? "", rawHeaders[i + 1] ?? "");
  }
  // no route looks at the host; an absolute or network-path target becomes a path
  const target = `http://localhost${url.startsWith("/") ? url : `/${url}`}`;
  if (method === "GET" || method === "HEAD") {
    return new Request(target, { method, headers, signal });
  }
  const body = ReadableStream.from<Uint8Array>(incoming.iterator({ destroyOnReturn: false }));
  return new Request(target, { method, headers, signal, body });
}

async function send(
  response: Response,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const headers = Object.fromEntries(response.headers);
  const { body, status } = response;
  if (body === null || !isStreamed(headers)) {
    const bytes = new Uint8Array(await response.arrayBuffer());
    outgoing.writeHead(status, { ...headers, "content-length": bytes.byteLength });
    outgoing.write(bytes);
    if (headers["connection"] === "close") await linger(incoming);
    outgoing.end();
    return;
  }
  outgoing.writeHead(status, headers);
  await pump(body, outgoing);
}

/**
 * Reads what is still sent, for a while, and keeps none of it: a client that sends has not read the
 * answer yet, and loses it where the connection ends meanwhile.
 */
async function linger(incoming: IncomingMessage): Promise<void> {
  if (incoming.readableEnded || incoming.destroyed) return;
  let timer: ReturnType<typeof setTimeout> | undefined;
  await new Promise<void>((resolve) => {
    timer = setTimeout(resolve, LINGER_MS);
    incoming.once("end", resolve).once("close", resolve).once("error", () => resolve());
    incoming.on("data", () => {}).resume();
  });
  clearTimeout(timer);
}

/** Events go out as they come; a file of known length need not be in memory whole. */
function isStreamed(headers: Readonly<Record<string, string>>): boolean {
  const type = headers["content-type"] ?? "";
  return type.startsWith("text/event-stream") ||
    type === "application/octet-stream" && "content-length" in headers;
}

async function pump(body: ReadableStream<Uint8Array>, outgoing: ServerResponse): Promise<void> {
  const reader = body.getReader();
  outgoing.once("close", () => void reader.cancel().catch(() => {}));
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    if (!outgoing.write(value)) await drained(outgoing);
  }
  outgoing.end();
}

/** Resolves when the client has read enough, or is gone. */
function drained(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      outgoing.off("drain", settle);
      outgoing.off("close", settle);
      resolve();
    };
    outgoing.on("drain", settle);
    outgoing.on("close", settle);
  });
}
