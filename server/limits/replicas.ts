/**
 * How many servers share one database. Each tells the others every 2.5 seconds that it is there,
 * and when it goes; one that was silent for 10 seconds is gone.
 *
 * The messages go by NOTIFY and come back to their sender, too. A server that does not hear itself
 * has lost its database, so the others' silence means nothing and the count stays.
 */
import { sql } from "kysely";
import type { Database } from "../../adapters/store/database/database.ts";
import type { Log } from "../telemetry/log.ts";

const CHANNEL = "lembas_replicas";
const TELL_MILLISECONDS = 2500;
/** Milliseconds of silence after which a server is gone: four messages in a row were missed. */
const GONE_MILLISECONDS = 10_000;

interface Word {
  readonly id: string;
  readonly says: "here" | "gone";
}

export class Replicas implements AsyncDisposable {
  readonly #database: Pick<Database, "db" | "listen">;
  readonly #log: Pick<Log, "warning">;
  readonly #id = crypto.randomUUID();
  /** When each server, this one too, was last heard of, in monotonic milliseconds. */
  readonly #heard = new Map<string, number>();
  #listening: AsyncDisposable | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #quiet = false;

  private constructor(
    database: Pick<Database, "db" | "listen">,
    log: Pick<Log, "warning">,
  ) {
    this.#database = database;
    this.#log = log;
  }

  /** Resolves when the others have been told. */
  static async join(
    database: Pick<Database, "db" | "listen">,
    log: Pick<Log, "warning">,
  ): Promise<Replicas> {
    const replicas = new Replicas(database, log);
    replicas.#listening = await database.listen(CHANNEL, (payload) => replicas.#hear(payload));
    await replicas.#tell("here");
    const timer = setInterval(() => void replicas.#beat(), TELL_MILLISECONDS);
    Deno.unrefTimer(timer);
    replicas.#timer = timer;
    return replicas;
  }

  /** At least 1, this one. */
  get count(): number {
    return Math.max(1, this.#heard.size);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#tell("gone");
    await this.#listening?.[Symbol.asyncDispose]();
  }

  async #beat(): Promise<void> {
    const now = performance.now();
    const own = this.#heard.get(this.#id) ?? -Infinity;
    if (now - own < GONE_MILLISECONDS / 2) {
      for (const [id, at] of this.#heard) {
        if (now - at >= GONE_MILLISECONDS) this.#heard.delete(id);
      }
    }
    await this.#tell("here");
  }

  async #tell(says: Word["says"]): Promise<void> {
    const word: Word = { id: this.#id, says };
    try {
      await sql`SELECT pg_notify(${CHANNEL}, ${JSON.stringify(word)})`.execute(this.#database.db);
      this.#quiet = false;
    } catch (error) {
      if (!this.#quiet) {
        this.#log.warning(`other servers cannot be told of this one: ${String(error)}`);
      }
      this.#quiet = true;
    }
  }

  #hear(payload: string): void {
    const word = parse(payload);
    if (word === undefined) return;
    if (word.says === "gone") return void this.#heard.delete(word.id);
    const isNew = !this.#heard.has(word.id);
    this.#heard.set(word.id, performance.now());
    // who comes new knows of the others at once
    if (isNew && word.id !== this.#id) void this.#tell("here");
  }
}

/** Undefined for another program's words. */
function parse(payload: string): Word | undefined {
  try {
    const { id, says } = JSON.parse(payload);
    const known = typeof id === "string" && (says === "here" || says === "gone");
    return known ? { id, says } : undefined;
  } catch {
    return undefined;
  }
}
