/**
 * A connection to PostgreSQL that only listens. When it was lost it comes back and says so, since what
 * was notified meanwhile is not told again.
 */
// @ts-types="@types/pg"
import pg from "pg";

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5000;

type Listener = (payload: string) => void;

export class PostgresListener {
  readonly #config: pg.ClientConfig;
  readonly #onError: (error: Error) => void;
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #reconnected = new Set<() => void>();
  #client: Promise<pg.Client> | undefined;
  /** The one that works; its loss is told once. */
  #current: pg.Client | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(config: pg.ClientConfig, onError: (error: Error) => void) {
    this.#config = config;
    this.#onError = onError;
  }

  async listen(channel: string, listener: Listener): Promise<AsyncDisposable> {
    const listeners = this.#listeners.get(channel) ?? new Set();
    this.#listeners.set(channel, listeners.add(listener));
    const client = await this.#connected();
    await client.query(listenTo(channel));
    return {
      [Symbol.asyncDispose]: async () => {
        if (!listeners.delete(listener) || listeners.size > 0 || this.#closed) return;
        await (await this.#client)?.query(`UNLISTEN ${pg.escapeIdentifier(channel)}`);
      },
    };
  }

  onReconnect(listener: () => void): Disposable {
    this.#reconnected.add(listener);
    return { [Symbol.dispose]: () => void this.#reconnected.delete(listener) };
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    const client = await this.#client?.catch(() => undefined);
    await client?.end();
  }

  /** The connection, made where there is none; a failure is not kept. */
  async #connected(): Promise<pg.Client> {
    const connecting = this.#client ??= this.#connect();
    try {
      return await connecting;
    } catch (error) {
      if (this.#client === connecting) this.#client = undefined;
      throw error;
    }
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client(this.#config);
    client.on("notification", ({ channel, payload }) => {
      for (const listener of this.#listeners.get(channel) ?? []) listener(payload ?? "");
    });
    // both may come for one loss; without a listener an "error" would end the process
    client.on("error", (error) => this.#lost(client, error));
    client.on("end", () => this.#lost(client, new Error("the connection ended")));
    try {
      await client.connect();
      for (const channel of this.#listeners.keys()) await client.query(listenTo(channel));
    } catch (error) {
      await client.end();
      throw error;
    }
    this.#current = client;
    return client;
  }

  #lost(client: pg.Client, error: Error): void {
    if (this.#closed || client !== this.#current) return;
    this.#current = undefined;
    this.#client = undefined;
    this.#onError(error);
    this.#comeBack(FIRST_RETRY_MS);
  }

  #comeBack(wait: number): void {
    this.#retry = setTimeout(async () => {
      try {
        await this.#connected();
        for (const listener of this.#reconnected) listener();
      } catch {
        if (!this.#closed) this.#comeBack(Math.min(2 * wait, LAST_RETRY_MS));
      }
    }, wait);
  }
}

function listenTo(channel: string): string {
  return `LISTEN ${pg.escapeIdentifier(channel)}`;
}
