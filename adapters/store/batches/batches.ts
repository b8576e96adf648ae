/**
 * Batches: their records, the lines that have run, and the files that these become at the end. Lines
 * count for the tenant's quota as soon as they are kept; the files are made of the same bytes.
 */
import { tell } from "../changes.ts";
import { type Arrived, receive, removeContents } from "../contents.ts";
import { type Db, transact, type Trx } from "../database/kysely.ts";
import { failureOf } from "../database/sql_error.ts";
import { GoneError, noTenant } from "../errors.ts";
import { insertFile } from "../files.ts";
import { beyond, limited, notListed, type Page, type PageQuery, toPage } from "../pages.ts";
import { charge } from "../tenants.ts";
import { newId } from "../../../src/util/ids.ts";
import {
  type BatchPatch,
  type BatchRecord,
  type BatchResult,
  type BatchStatus,
  ENDED_BATCHES,
} from "./batch_records.ts";

/** Lines of one page, when they are read back. */
const PAGE = 64;

/** How a batch ends. */
export interface BatchEnd {
  /** Of the record as it is then. @throws what means that it is not to end so */
  readonly patch: (batch: BatchRecord) => BatchPatch;
  /** Lines of the error file beside those that were kept. */
  readonly more?: AsyncIterable<Uint8Array>;
}

/** Of one tenant. What names a batch of another one, or none, throws GoneError. */
export class BatchStore {
  readonly #db: Db;
  readonly #tenant: string;

  constructor(db: Db, tenant: string) {
    this.#db = db;
    this.#tenant = tenant;
  }

  /** @throws {GoneError} where the tenant is not there */
  async create(fields: Omit<BatchRecord, "id">): Promise<BatchRecord> {
    const batch: BatchRecord = { ...fields, id: newId("batch", "_"), tenant: this.#tenant };
    const { id, tenant, status, inputFile } = batch;
    try {
      await this.#db.transaction().execute(async (trx) => {
        await trx.insertInto("batches")
          .values({ id, tenant, status, inputFile, record: JSON.stringify(batch) }).execute();
        await tell(trx, "batch", { tenant, id });
      });
    } catch (error) {
      throw failureOf(error) === "foreign key" ? noTenant(tenant) : error;
    }
    return batch;
  }

  async find(id: string): Promise<BatchRecord | undefined> {
    const row = await this.#rows().where("id", "=", id).executeTakeFirst();
    return row && toBatch(row);
  }

  /** @throws {RangeError} where `after` names no batch */
  async list(query: PageQuery): Promise<Page<BatchRecord>> {
    const { after, order } = query;
    let rows = this.#rows().orderBy("seq", order);
    if (after !== undefined) {
      const from = await this.#db.selectFrom("batches").select("seq")
        .where("tenant", "=", this.#tenant).where("id", "=", after).executeTakeFirst();
      rows = rows.where("seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(await limited(rows, query).execute(), query, toBatch);
  }

  /** A batch under way that reads a file; undefined where there is none. */
  async userOf(file: string): Promise<BatchRecord | undefined> {
    const row = await this.#rows().where("inputFile", "=", file)
      .where("status", "not in", ENDED_BATCHES).executeTakeFirst();
    return row && toBatch(row);
  }

  /**
   * Applies what `change` makes of the record as it is then; nobody else's change comes in between.
   * @throws what `change` throws: then nothing is changed
   */
  change(id: string, change: (batch: BatchRecord) => BatchPatch): Promise<BatchRecord> {
    return transact(this.#db, async (trx) => {
      const before = await this.#lock(trx, id);
      return await this.#write(trx, { ...before, ...change(before) });
    });
  }

  /** The lines that have run. */
  async doneLines(id: string): Promise<ReadonlySet<number>> {
    const rows = await this.#db.selectFrom("batchResults")
      .innerJoin("batches", "batches.id", "batchResults.batch").select("line")
      .where("tenant", "=", this.#tenant).where("batch", "=", id).execute();
    return new Set(rows.map(({ line }) => line));
  }

  /**
   * Keeps lines that have run, and counts them. One that is kept already stays as it is.
   * @throws {QuotaError} where the tenant may store no more; {RangeError} where the batch has ended
   */
  addResults(id: string, results: readonly BatchResult[]): Promise<void> {
    return transact(this.#db, async (trx) => {
      await charge(trx, this.#tenant, 0);
      const batch = await this.#lock(trx, id);
      if (isEnded(batch)) throw new RangeError(`Cannot keep lines of ${id}: it is ${batch.status}`);
      const added: BatchResult[] = [];
      for (const result of results) {
        const { line, data, failed } = result;
        const row = await trx.insertInto("batchResults")
          .values({ batch: id, line, data, failed: failed ? 1 : 0 })
          .onConflict((conflict) => conflict.doNothing()).returning("line").executeTakeFirst();
        if (row !== undefined) added.push(result);
      }
      await charge(trx, this.#tenant, added.reduce((sum, { data }) => sum + data.length, 0));
      await this.#write(trx, added.reduce(counted, batch));
    });
  }

  /**
   * Ends a batch: its lines become its files, in one transaction with its record. Where the process
   * dies before, it is ended anew; nothing is doubled.
   * @throws {QuotaError} where `more` is more than the tenant may store; what `patch` throws
   */
  async finish(id: string, { patch, more }: BatchEnd): Promise<BatchRecord> {
    const arrived: Arrived[] = [];
    const file = async (lines: AsyncIterable<Uint8Array>) => {
      const one = await receive(this.#db, lines, () => {});
      arrived.push(one);
      return one;
    };
    try {
      const output = await file(this.#results(id, 0));
      const errors = await file(joined(this.#results(id, 1), more));
      return await transact(this.#db, async (trx) => {
        await charge(trx, this.#tenant, 0);
        const before = await this.#lock(trx, id);
        const kept = await this.#dropResults(trx, id);
        await charge(trx, this.#tenant, output.bytes + errors.bytes - kept);
        const keep = (content: Arrived, name: "output" | "error") =>
          this.#keepFile(trx, before, content, name);
        return await this.#write(trx, {
          ...{ ...before, ...patch(before) },
          outputFile: await keep(output, "output"),
          errorFile: await keep(errors, "error"),
        });
      });
    } catch (error) {
      await removeContents(this.#db, arrived.map((one) => one.id));
      throw error;
    }
  }

  async #keepFile(
    trx: Trx,
    { id, outputExpiresAfter }: BatchRecord,
    content: Arrived,
    name: "output" | "error",
  ): Promise<string | null> {
    if (content.bytes === 0) {
      await removeContents(trx, [content.id]);
      return null;
    }
    const as = {
      filename: `${id}_${name}.jsonl`,
      purpose: "batch_output",
      expiresAfter: outputExpiresAfter,
    } as const;
    return (await insertFile(trx, this.#tenant, content, as)).id;
  }

  /** Kept lines in the file's order, a page in memory at a time. */
  async *#results(id: string, failed: 0 | 1): AsyncGenerator<Uint8Array> {
    for (let after = 0;;) {
      const rows = await this.#db.selectFrom("batchResults").select(["line", "data"])
        .where("batch", "=", id).where("failed", "=", failed).where("line", ">", after)
        .orderBy("line").limit(PAGE).execute();
      for (const { data } of rows) yield data;
      const last = rows.at(-1);
      if (last === undefined) return;
      after = last.line;
    }
  }

  /** Returns the bytes that were dropped. */
  async #dropResults(trx: Trx, id: string): Promise<number> {
    const size = trx.selectFrom("batchResults")
      .select(({ fn }) => fn.sum<number>(fn<number>("length", ["data"])).as("bytes"))
      .where("batch", "=", id);
    const { bytes } = await size.executeTakeFirstOrThrow();
    await trx.deleteFrom("batchResults").where("batch", "=", id).execute();
    return Number(bytes ?? 0);
  }

  async #lock(trx: Trx, id: string): Promise<BatchRecord> {
    const row = await trx.selectFrom("batches").select("record").where("tenant", "=", this.#tenant)
      .where("id", "=", id).forUpdate().executeTakeFirst();
    if (row !== undefined) return toBatch(row);
    throw new GoneError(`Cannot find batch ${id.slice(0, 80)}: there is none`);
  }

  async #write(trx: Trx, batch: BatchRecord): Promise<BatchRecord> {
    const { id, tenant, status } = batch;
    await trx.updateTable("batches").set({ status, record: JSON.stringify(batch) })
      .where("id", "=", id).execute();
    await tell(trx, "batch", { tenant, id });
    return batch;
  }

  #rows() {
    return this.#db.selectFrom("batches").select("record").where("tenant", "=", this.#tenant);
  }
}

/** Batches of all tenants, for the runner and for metrics. */
export class BatchDirectory {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  /** Oldest first. */
  async unfinished(): Promise<readonly BatchRecord[]> {
    const rows = await this.#db.selectFrom("batches").select("record")
      .where("status", "not in", ENDED_BATCHES).orderBy("seq").execute();
    return rows.map(toBatch);
  }

  /** How many there are of each status; those without any are left out. */
  async counts(): Promise<ReadonlyMap<BatchStatus, number>> {
    const rows = await this.#db.selectFrom("batches")
      .select(({ fn }) => ["status", fn.countAll<number>().as("count")])
      .groupBy("status").execute();
    return new Map(rows.map(({ status, count }) => [status as BatchStatus, Number(count)]));
  }
}

/** Whether nothing will change the batch any more. */
export function isEnded({ status }: Pick<BatchRecord, "status">): boolean {
  return (ENDED_BATCHES as readonly BatchStatus[]).includes(status);
}

function counted(batch: BatchRecord, { failed, usage }: BatchResult): BatchRecord {
  const { inputTokens, cachedTokens, outputTokens } = batch.usage;
  return {
    ...batch,
    completed: batch.completed + (failed ? 0 : 1),
    failed: batch.failed + (failed ? 1 : 0),
    usage: {
      inputTokens: inputTokens + (usage?.inputTokens ?? 0),
      cachedTokens: cachedTokens + (usage?.cachedTokens ?? 0),
      outputTokens: outputTokens + (usage?.outputTokens ?? 0),
    },
  };
}

async function* joined(
  first: AsyncIterable<Uint8Array>,
  more: AsyncIterable<Uint8Array> | undefined,
): AsyncGenerator<Uint8Array> {
  yield* first;
  if (more !== undefined) yield* more;
}

function toBatch({ record }: { readonly record: string }): BatchRecord {
  return JSON.parse(record) as BatchRecord;
}
