/**
 * SageMaker's stateful sessions: ids that its router sends back to this server, for as long as a client
 * wants its prefixes cached here. They live in memory: another server, or this one started again, does
 * not know them.
 */

/** Milliseconds that a session is kept. */
const LIFE = 20 * 60 * 1000;
/** Sessions that a tenant has at once; the oldest goes for one more. */
const MOST = 1024;

export interface Session {
  readonly id: string;
  /** Unix milliseconds. */
  readonly expires: number;
}

export class Sessions {
  /** By tenant, oldest first. */
  readonly #open = new Map<string, Map<string, Session>>();
  readonly #now: () => number;

  /** @param now Unix milliseconds */
  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  open(tenant: string): Session {
    const own = this.#of(tenant);
    const [oldest] = own.keys();
    if (own.size >= MOST && oldest !== undefined) own.delete(oldest);
    const session = { id: crypto.randomUUID(), expires: this.#now() + LIFE };
    own.set(session.id, session);
    this.#open.set(tenant, own);
    return session;
  }

  has(tenant: string, id: string): boolean {
    return this.#of(tenant).has(id);
  }

  /** False where the tenant has none by this id. */
  close(tenant: string, id: string): boolean {
    const own = this.#of(tenant);
    const closed = own.delete(id);
    if (own.size === 0) this.#open.delete(tenant);
    return closed;
  }

  /** Those that have not expired. */
  #of(tenant: string): Map<string, Session> {
    const own = this.#open.get(tenant) ?? new Map<string, Session>();
    for (const { id, expires } of own.values()) if (expires <= this.#now()) own.delete(id);
    return own;
  }
}
