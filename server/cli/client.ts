/**
 * The HTTP client of the commands: JSON both ways, pages of lists, and the server's own words where it
 * refuses. What answers is a server, or an application in this process (`admin/store_fetch.ts`).
 */
import { statedReason } from "../errors.ts";
import { TENANT_HEADER } from "../access/access.ts";

/** What answers: a server's address, or an application in this process. */
export type Fetch = (path: string, init: RequestInit) => Promise<Response>;

export interface ApiRequest {
  /** Default: POST with a body, GET without. */
  readonly method?: "GET" | "POST" | "DELETE";
  /** A value to be sent as JSON. */
  readonly body?: unknown;
  /** A body as it is, with its content type. */
  readonly stream?: StreamBody;
  /** The tenant that the request acts for. */
  readonly tenant?: string | undefined;
  readonly signal?: AbortSignal;
}

export interface StreamBody {
  readonly content: ReadableStream<Uint8Array>;
  readonly type: string;
}

/** An object as the server shows it. */
export type Shown = Readonly<Record<string, unknown>>;

/** An answer that is not a success. */
export interface Refusal {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** The server's own words, where it has any. */
  readonly stated: string | undefined;
  /** The start of whatever came. */
  readonly text: string;
}

interface ListBody<T> {
  readonly data: readonly T[];
  readonly "has_more"?: boolean;
}

const MOST_SHOWN = 200;

export class ApiClient {
  readonly #fetch: Fetch;
  readonly #failure: (refusal: Refusal) => Error;

  /** @param failure what is thrown where the server refuses; default: a TypeError in its words */
  constructor(fetch: Fetch, failure: (refusal: Refusal) => Error = inItsWords) {
    this.#fetch = fetch;
    this.#failure = failure;
  }

  /** @throws what `failure` makes of a refusal */
  async json<T = Shown>(path: string, request: ApiRequest = {}): Promise<T> {
    return await (await this.response(path, request)).json();
  }

  /** A list's items, page by page; `cursor` says what `after` is behind an item. */
  async *pages<T = Shown>(
    path: string,
    { limit, cursor, ...request }: ApiRequest & {
      readonly limit: number;
      readonly cursor: (item: T) => string;
    },
  ): AsyncGenerator<T> {
    let after: string | undefined;
    while (true) {
      const query = new URLSearchParams({ limit: String(limit), ...(after && { after }) });
      const glue = path.includes("?") ? "&" : "?";
      const page = await this.json<ListBody<T>>(`${path}${glue}${query}`, request);
      yield* page.data;
      const last = page.data.at(-1);
      if (page.has_more !== true || last === undefined) return;
      after = cursor(last);
    }
  }

  /** @throws what `failure` makes of a refusal */
  async response(path: string, request: ApiRequest = {}): Promise<Response> {
    const { body, stream, tenant, signal } = request;
    const sent = stream?.content ?? (body === undefined ? undefined : JSON.stringify(body));
    const { method = sent === undefined ? "GET" : "POST" } = request;
    const headers = new Headers();
    if (tenant !== undefined) headers.set(TENANT_HEADER, tenant);
    if (sent !== undefined) headers.set("content-type", stream?.type ?? "application/json");
    const response = await this.#fetch(path, {
      method,
      headers,
      ...(sent !== undefined && { body: sent }),
      ...(signal && { signal }),
    });
    if (response.ok) return response;
    const text = await response.text();
    throw this.#failure({
      method,
      path,
      status: response.status,
      stated: statedReason(text),
      text: text.slice(0, MOST_SHOWN),
    });
  }
}

/** A form with a file, sent as it is read: `FormData` would have the whole file in memory. */
export function formBody(
  fields: Readonly<Record<string, string>>,
  filename: string,
  content: AsyncIterable<Uint8Array>,
): StreamBody {
  const boundary = crypto.randomUUID();
  return {
    content: ReadableStream.from(formParts(fields, filename, content, boundary)),
    type: `multipart/form-data; boundary=${boundary}`,
  };
}

async function* formParts(
  fields: Readonly<Record<string, string>>,
  filename: string,
  content: AsyncIterable<Uint8Array>,
  boundary: string,
): AsyncGenerator<Uint8Array> {
  const part = (rest: string) =>
    new TextEncoder().encode(`--${boundary}\r\ncontent-disposition: form-data; ${rest}`);
  for (const [name, value] of Object.entries(fields)) {
    yield part(`name="${name}"\r\n\r\n${value}\r\n`);
  }
  const name = filename.replaceAll('"', "%22").replaceAll(/[\r\n]/g, " ");
  yield part(`name="file"; filename="${name}"\r\n\r\n`);
  yield* content;
  yield new TextEncoder().encode(`\r\n--${boundary}--\r\n`);
}

function inItsWords({ stated, status, text }: Refusal): TypeError {
  return new TypeError(stated ?? `The server answered ${status}: ${text}`);
}

/**
 * A server by its address, without `/v1`.
 * @param unreachable what is thrown where nothing answers; not called where the signal has ended it
 */
export function serverFetch(
  { url, apiKey }: { readonly url: string; readonly apiKey: string | undefined },
  unreachable: (reason: string, cause: unknown) => Error,
): Fetch {
  return async (path, init) => {
    const headers = new Headers(init.headers);
    if (apiKey !== undefined) headers.set("authorization", `Bearer ${apiKey}`);
    try {
      return await fetch(`${url}${path}`, { ...init, headers });
    } catch (cause) {
      if (init.signal?.aborted) throw init.signal.reason;
      throw unreachable(cause instanceof Error ? cause.message : String(cause), cause);
    }
  };
}
