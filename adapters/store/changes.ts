/**
 * News of changes, from this process and from others on the same database: told within a second, by
 * `pg_notify`. A notice is a hint to look again, never the truth itself; one may be lost where the
 * connection breaks ("resync" says that it was), so listeners also look from time to time.
 */
import { sql } from "kysely";
import type { Database } from "./database/database.ts";
import type { Db } from "./database/kysely.ts";
import type { StoreLog } from "./log.ts";

export const CHANGE_KINDS = ["core", "key", "tenant", "factors", "model", "job", "batch"] as const;
export type ChangeKind = typeof CHANGE_KINDS[number];

export interface ChangeDetail {
  readonly tenant?: string;
  /** core: its name; key, tenant, model, job, batch: the id; factors: the digest. */
  readonly id?: string;
}

const CHANNEL = "lembas_changes";

type Listener = (detail: ChangeDetail) => void;

export class Changes implements AsyncDisposable {
  readonly #db: Db;
  readonly #log: StoreLog;
  readonly #listeners = new Map<ChangeKind | "resync", Set<Listener>>();
  #listening: AsyncDisposable | undefined;
  #reconnect: Disposable | undefined;

  private constructor(db: Db, log: StoreLog) {
    this.#db = db;
    this.#log = log;
  }

  static async open(database: Database, log: StoreLog): Promise<Changes> {
    const changes = new Changes(database.db, log);
    changes.#reconnect = database.onReconnect(() => changes.#emit("resync", {}));
    changes.#listening = await database.listen(CHANNEL, (payload) => changes.#take(payload));
    return changes;
  }

  /** Listeners are called without waiting; what they throw is logged. */
  on(kind: ChangeKind | "resync", listener: Listener): Disposable {
    const listeners = this.#listeners.get(kind) ?? new Set();
    // one function may listen twice: each has its own end
    const own: Listener = (detail) => listener(detail);
    this.#listeners.set(kind, listeners.add(own));
    return { [Symbol.dispose]: () => void listeners.delete(own) };
  }

  /** Tells every process, this one too. The stores call it for what they change. */
  tell(kind: ChangeKind, detail: ChangeDetail): Promise<void> {
    return tell(this.#db, kind, detail);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#reconnect?.[Symbol.dispose]();
    await this.#listening?.[Symbol.asyncDispose]();
  }

  #take(payload: string): void {
    try {
      const { kind, ...detail } = JSON.parse(payload) as ChangeDetail & { kind: ChangeKind };
      if (CHANGE_KINDS.includes(kind)) this.#emit(kind, detail);
    } catch {
      // another program's notice
      this.#log.warning(`passed over a notice on ${CHANNEL}`, { length: payload.length });
    }
  }

  #emit(kind: ChangeKind | "resync", detail: ChangeDetail): void {
    for (const listener of [...this.#listeners.get(kind) ?? []]) {
      try {
        listener(detail);
      } catch (error) {
        this.#log.warning(`a listener of ${kind} changes failed: ${String(error)}`);
      }
    }
  }
}

/** Within a transaction: told when it is committed. */
export async function tell(db: Db, kind: ChangeKind, detail: ChangeDetail): Promise<void> {
  const payload = JSON.stringify({ kind, ...detail });
  await sql`SELECT pg_notify(${CHANNEL}, ${payload})`.execute(db);
}
