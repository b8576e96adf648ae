/**
 * What PostgreSQL's background processes do and PGlite, a single process, lacks: checkpoints, so
 * that a start after a crash replays little, and vacuuming. It owns when; it runs between
 * statements, best when nobody waits.
 */
import type { PGlite } from "@electric-sql/pglite";

/** Bytes of log since the last checkpoint: at which a pause is used, and at which none is awaited. */
const CHECKPOINT = { idle: 8 * 2 ** 20, busy: 48 * 2 ** 20 } as const;
/** Bytes of log after which dead rows are looked for. */
const VACUUM = 128 * 2 ** 20;
const IDLE_MS = 300;
/** Statements between looks at the log while there is no pause. */
const LOOK_EVERY = 64;

export class PgliteUpkeep {
  readonly #pg: PGlite;
  readonly #onError: (error: unknown) => void;
  #on = true;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #statements = 0;
  #checkpointed = 0;
  #vacuumed = 0;

  /** `onError` hears of what failed: no statement does for it. */
  constructor(pg: PGlite, onError: (error: unknown) => void) {
    this.#pg = pg;
    this.#onError = onError;
  }

  /** Takes the log's end as where the last checkpoint was. */
  async start(): Promise<void> {
    this.#checkpointed = this.#vacuumed = await this.#logEnd();
  }

  set(mode: "on" | "off"): void {
    this.#on = mode === "on";
  }

  /** After each statement. */
  async afterStatement(): Promise<void> {
    clearTimeout(this.#timer);
    if (!this.#on || this.#pg.isInTransaction()) return;
    if (++this.#statements % LOOK_EVERY === 0) {
      await this.#run(CHECKPOINT.busy).catch(this.#onError);
    }
    this.#timer = setTimeout(() => void this.#idle().catch(this.#onError), IDLE_MS);
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#on = false;
    await Promise.resolve();
  }

  async #idle(): Promise<void> {
    if (!this.#on || this.#pg.isInTransaction()) return;
    const end = await this.#run(CHECKPOINT.idle);
    if (!this.#on || end - this.#vacuumed < VACUUM) return;
    this.#vacuumed = end;
    await this.#pg.exec("VACUUM ANALYZE");
  }

  async #run(most: number): Promise<number> {
    const end = await this.#logEnd();
    // a backup may have begun meanwhile
    if (!this.#on || end - this.#checkpointed < most) return end;
    this.#checkpointed = end;
    await this.#pg.exec("CHECKPOINT");
    return end;
  }

  async #logEnd(): Promise<number> {
    const { rows } = await this.#pg.query<{ bytes: number }>(
      "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS bytes",
    );
    return rows[0]?.bytes ?? 0;
  }
}
