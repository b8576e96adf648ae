// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * The parts of OpenAI's files and fine-tuning API that a training client needs, by plain fetch. It
 * owns requests, retries of what only asks, and the words of a failure; it decides nothing.
 */

import { statedReason } from "../../http/errors.ts";
import { TENANT_HEADER } from "../../access/access.ts";

export interface ApiOptions {
  /** Without `/v1`. */
  readonly url: string;
  readonly apiKey: string | undefined;
  /** Whose files, job and model it is about. */
  readonly tenant: string;
  /** Resolves after so many milliseconds, or when `signal` fires. */
  readonly wait: (milliseconds: number, signal: AbortSignal) => Promise<void>;
  /** Ends all requests. */
  readonly signal: AbortSignal;
}

export interface RemoteJob {
  readonly id: string;
  readonly status: string;
  readonly fine_tuned_model: string | null;
  readonly result_files: readonly string[];
  readonly trained_tokens: number | null;
  readonly error: { readonly message?: string } | null;
  readonly [more: string]: unknown;
}

export interface RemoteEvent {
  readonly id: string;
  readonly level: string;
  readonly message: string;
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>> | null;
}

interface ListBody<T> {
  readonly data: readonly T[];
  readonly has_more?: boolean;
}

/** A server that was reached once may be away for a restart: about two minutes. */
const TRIES = 60;
const PAUSE = 2000;
const PAGE = 100;

export class TrainingApi {
  readonly #options: ApiOptions;

  constructor(options: ApiOptions) {
    this.#options = options;
  }

  get signal(): AbortSignal {
    return this.#options.signal;
  }

  /** The id of the base that is served. */
  async baseModel(): Promise<string> {
    type Model = { readonly id: string; readonly parent?: string | null };
    const { data } = await this.#json<ListBody<Model>>("/v1/models");
    const base = data.find(({ parent }) => parent === null || parent === undefined);
    if (base === undefined) throw new TypeError(`Cannot train on ${this.#options.url}: no base`);
    return base.id;
  }

  /** Sends a training file as it is read; returns its id. */
  async upload(filename: string, content: AsyncIterable<Uint8Array>): Promise<string> {
    const boundary = crypto.randomUUID();
    const file = await this.#json<{ readonly id: string }>("/v1/files", {
      body: ReadableStream.from(formOf(filename, content, boundary)),
      headers: { "content-type": `multipart/form-data; boundary=${boundary}` },
    });
    return file.id;
  }

  create(job: Readonly<Record<string, unknown>>): Promise<RemoteJob> {
    return this.#json("/v1/fine_tuning/jobs", {
      body: JSON.stringify(job),
      headers: { "content-type": "application/json" },
    });
  }

  job(id: string): Promise<RemoteJob> {
    return this.#patiently(() => this.#json(`/v1/fine_tuning/jobs/${id}`));
  }

  /** Events after the one of id `seen`, oldest first. */
  async eventsAfter(id: string, seen: string | undefined): Promise<readonly RemoteEvent[]> {
    const found: RemoteEvent[] = [];
    for (let after = "";;) {
      const query = `limit=${PAGE}${after === "" ? "" : `&after=${after}`}`;
      const path = `/v1/fine_tuning/jobs/${id}/events?${query}`;
      const page = await this.#patiently(() => this.#json<ListBody<RemoteEvent>>(path));
      for (const event of page.data) {
        if (event.id === seen) return found.reverse();
        found.push(event);
      }
      after = page.data.at(-1)?.id ?? "";
      if (page.has_more !== true || after === "") return found.reverse();
    }
  }

  /** A file's name and content. */
  async download(id: string): Promise<{ filename: string; content: Uint8Array }> {
    const { filename } = await this.#patiently(() =>
      this.#json<{ readonly filename: string }>(`/v1/files/${id}`)
    );
    const response = await this.#patiently(() => this.#request(`/v1/files/${id}/content`));
    return { filename, content: new Uint8Array(await response.arrayBuffer()) };
  }

  async #json<T>(path: string, post?: RequestInit): Promise<T> {
    return await (await this.#request(path, post)).json();
  }

  async #request(path: string, post?: RequestInit): Promise<Response> {
    const { url, apiKey, tenant, signal } = this.#options;
    const headers = new Headers(post?.headers);
    headers.set(TENANT_HEADER, tenant);
    if (apiKey !== undefined) headers.set("authorization", `Bearer ${apiKey}`);
    const method = post === undefined ? "GET" : "POST";
    let response: Response;
    try {
      response = await fetch(`${url}${path}`, { ...post, method, headers, signal });
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      throw new UnreachableError(`Cannot reach ${url}: ${messageOf(cause)}`, { cause });
    }
    if (response.ok) return response;
    const text = `Cannot ${method} ${url}${path}: ${response.status} ${await reasonOf(response)}`;
    throw response.status >= 500 ? new UnreachableError(text) : new TypeError(text);
  }

  /** Asks again where the server is away; only for what changes nothing. */
  async #patiently<T>(ask: () => Promise<T>): Promise<T> {
    const { wait, signal } = this.#options;
    for (let left = TRIES;; left--) {
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof UnreachableError) || left === 0) throw error;
        await wait(PAUSE, signal);
        signal.throwIfAborted();
      }
    }
  }
}

/** A form by hand: `FormData` would have the whole file in memory. */
async function* formOf(
  filename: string,
  content: AsyncIterable<Uint8Array>,
  boundary: string,
): AsyncGenerator<Uint8Array> {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const name = filename.replaceAll('"', "%22").replaceAll(/[\r\n]/g, " ");
  yield bytes(
    `--${boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n` +
      `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="${name}"\r\n\r\n`,
  );
  yield* content;
  yield bytes(`\r\n--${boundary}--\r\n`);
}

/** No answer, or one that says that the server is not well. */
class UnreachableError extends Error {
  override readonly name = "UnreachableError";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** OpenAI's error text, or the start of whatever came. */
async function reasonOf(response: Response): Promise<string> {
  const text = await response.text();
  return statedReason(text) ?? text.slice(0, 200);
}
