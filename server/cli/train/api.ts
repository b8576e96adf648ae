// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * The parts of OpenAI's files and fine-tuning API that a training client needs. What only asks is
 * asked again while the server is away; what changes something is not.
 */
import { ApiClient, type ApiRequest, formBody, serverFetch } from "../client.ts";

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

/** A server that was reached once may be away for a restart: about two minutes. */
const TRIES = 60;
const PAUSE = 2000;
const PAGE = 100;

export class TrainingApi {
  readonly #options: ApiOptions;
  readonly #client: ApiClient;
  /** What every request says. */
  readonly #own: Pick<ApiRequest, "tenant" | "signal">;

  constructor(options: ApiOptions) {
    const { url, tenant, signal } = options;
    this.#options = options;
    this.#own = { tenant, signal };
    const fetch = serverFetch(
      options,
      (reason, cause) => new UnreachableError(`Cannot reach ${url}: ${reason}`, { cause }),
    );
    this.#client = new ApiClient(fetch, ({ method, path, status, stated, text }) => {
      const message = `Cannot ${method} ${url}${path}: ${status} ${stated ?? text}`;
      return status >= 500 ? new UnreachableError(message) : new TypeError(message);
    });
  }

  get signal(): AbortSignal {
    return this.#options.signal;
  }

  /** The id of the base that is served. */
  async baseModel(): Promise<string> {
    type Models = {
      readonly data: readonly { readonly id: string; readonly parent?: string | null }[];
    };
    const { data } = await this.#client.json<Models>("/v1/models", this.#own);
    const base = data.find(({ parent }) => parent === null || parent === undefined);
    if (base === undefined) throw new TypeError(`Cannot train on ${this.#options.url}: no base`);
    return base.id;
  }

  /** Sends a training file as it is read; returns its id. */
  async upload(filename: string, content: AsyncIterable<Uint8Array>): Promise<string> {
    const file = await this.#client.json<{ readonly id: string }>("/v1/files", {
      ...this.#own,
      stream: formBody({ purpose: "fine-tune" }, filename, content),
    });
    return file.id;
  }

  create(job: Readonly<Record<string, unknown>>): Promise<RemoteJob> {
    return this.#client.json("/v1/fine_tuning/jobs", { ...this.#own, body: job });
  }

  job(id: string): Promise<RemoteJob> {
    return this.#patiently(() => this.#client.json(`/v1/fine_tuning/jobs/${id}`, this.#own));
  }

  /** Events after the one of id `seen`, oldest first. */
  eventsAfter(id: string, seen: string | undefined): Promise<readonly RemoteEvent[]> {
    return this.#patiently(async () => {
      const found: RemoteEvent[] = [];
      const cursor = (event: RemoteEvent) => event.id;
      const path = `/v1/fine_tuning/jobs/${id}/events`;
      for await (const event of this.#client.pages(path, { ...this.#own, limit: PAGE, cursor })) {
        if (event.id === seen) break;
        found.push(event);
      }
      return found.reverse();
    });
  }

  /** A file's name and content. */
  async download(id: string): Promise<{ filename: string; content: Uint8Array }> {
    const { filename } = await this.#patiently(() =>
      this.#client.json<{ readonly filename: string }>(`/v1/files/${id}`, this.#own)
    );
    const response = await this.#patiently(() =>
      this.#client.response(`/v1/files/${id}/content`, this.#own)
    );
    return { filename, content: new Uint8Array(await response.arrayBuffer()) };
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

/** No answer, or a status of 500 and above. */
class UnreachableError extends Error {
  override readonly name = "UnreachableError";
}
