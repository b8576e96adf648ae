/**
 * The administrator's HTTP API as the command calls it: requests, pages and the words of a failure,
 * over whatever answers them (a server, or an application over a store). It decides nothing.
 */
import { withoutSecret } from "../../../src/checkpoint/fetch/secrets.ts";
import { statedReason } from "../../http/errors.ts";
import { TENANT_HEADER } from "../../access/access.ts";

/** What answers: a server's address, or an application in this process. */
export type Fetch = (path: string, init: RequestInit) => Promise<Response>;

export interface AdminRequest {
  readonly method?: "GET" | "POST" | "DELETE";
  readonly body?: unknown;
  /** The tenant that the request acts for. */
  readonly tenant?: string | undefined;
}

/** An object as the server shows it. */
export type Shown = Readonly<Record<string, unknown>>;

interface ListBody {
  readonly data: readonly Shown[];
  readonly "has_more"?: boolean;
}

const PAGE = 1000;

export class AdminApi {
  readonly #fetch: Fetch;

  constructor(fetch: Fetch) {
    this.#fetch = fetch;
  }

  /** @throws {TypeError} with the server's own words where it refuses */
  async json(path: string, request: AdminRequest = {}): Promise<Shown> {
    return await (await this.response(path, request)).json();
  }

  /** Every page of a list; `cursor` says what `after` is behind an item. */
  async all(
    path: string,
    { tenant, cursor }: { readonly tenant?: string | undefined; cursor(item: Shown): string },
  ): Promise<readonly Shown[]> {
    const found: Shown[] = [];
    let after: string | undefined;
    while (true) {
      const query = new URLSearchParams({ limit: String(PAGE), ...(after && { after }) });
      const glue = path.includes("?") ? "&" : "?";
      const shown = await this.json(`${path}${glue}${query}`, { tenant });
      const page = shown as unknown as ListBody;
      found.push(...page.data);
      const last = page.data.at(-1);
      if (page.has_more !== true || last === undefined) return found;
      after = cursor(last);
    }
  }

  /** @throws {TypeError} as `json` does */
  async response(path: string, request: AdminRequest = {}): Promise<Response> {
    const { method = request.body === undefined ? "GET" : "POST", body, tenant } = request;
    const headers = new Headers();
    if (tenant !== undefined) headers.set(TENANT_HEADER, tenant);
    if (body !== undefined) headers.set("content-type", "application/json");
    const response = await this.#fetch(path, {
      method,
      headers,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    if (response.ok) return response;
    throw new TypeError(await reasonOf(response));
  }
}

/** A server by its address. */
export function serverFetch(url: string, apiKey: string | undefined): Fetch {
  return async (path, init) => {
    const headers = new Headers(init.headers);
    if (apiKey !== undefined) headers.set("authorization", `Bearer ${apiKey}`);
    try {
      return await fetch(`${url}${path}`, { ...init, headers });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new TypeError(
        `Cannot reach ${
          withoutSecret(url)
        }: ${reason}. Say where it is with --server, or work on its store with ` +
          "--data DIR (while no server has it) or --database URL.",
        { cause },
      );
    }
  };
}

/** The server's own words, or the start of whatever came. */
async function reasonOf(response: Response): Promise<string> {
  const text = await response.text();
  return statedReason(text) ?? `The server answered ${response.status}: ${text.slice(0, 200)}`;
}
