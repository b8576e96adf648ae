/**
 * Someone at the console without a browser: keeps its cookie, reads forms off pages and sends them as
 * a browser would. It draws and runs nothing.
 */
import type { App } from "../../../server/context.ts";

const HOST = "localhost:8000";

export interface Seen {
  readonly status: number;
  readonly html: string;
  readonly headers: Headers;
  /** Where it is led to; undefined = nowhere. */
  readonly location: string | undefined;
}

export class Visitor {
  readonly #app: App;
  cookie: string | undefined;

  constructor(app: App) {
    this.#app = app;
  }

  async get(path: string): Promise<Seen> {
    return await this.#send(path, { method: "GET" });
  }

  /** Sends a form with this session's token, or as `headers` and `fields` say otherwise. */
  async post(
    path: string,
    fields: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Seen> {
    const token = await this.formToken();
    const body = new URLSearchParams({ ...(token && { form_token: token }), ...fields });
    return await this.#send(path, {
      method: "POST",
      body,
      headers: { origin: `http://${HOST}`, "sec-fetch-site": "same-origin", ...headers },
    });
  }

  /** What this session's pages carry in their forms; undefined without a session. */
  async formToken(): Promise<string | undefined> {
    const { html } = await this.get("/console/playground");
    return /name="form_token" value="(\w+)"/.exec(html)?.[1];
  }

  async signIn(key: string): Promise<Seen> {
    return await this.post("/console/sign-in", { key });
  }

  async #send(path: string, init: RequestInit): Promise<Seen> {
    const headers = new Headers(init.headers);
    headers.set("host", HOST);
    if (this.cookie !== undefined) headers.set("cookie", this.cookie);
    const response = await this.#app.request(path, { ...init, headers });
    const set = response.headers.get("set-cookie");
    if (set !== null) this.cookie = /max-age=0/i.test(set) ? undefined : set.split(";")[0];
    return {
      status: response.status,
      html: await response.text(),
      headers: response.headers,
      location: response.headers.get("location") ?? undefined,
    };
  }
}
