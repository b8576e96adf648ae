/** What stored responses and stored chats have in common: room, removal and expiry. */
import { type Db, transact } from "../database/kysely.ts";
import { GoneError, noTenant } from "../errors.ts";
import { charge, checkQuota } from "../tenants.ts";

export type KeptTable = "responses" | "chats";

/**
 * Whether there is room for one more, so that it is not made in vain.
 * @throws {GoneError} where the tenant is not there; {QuotaError} where it may store no more
 */
export async function checkRoom(db: Db, tenant: string, bytes: number): Promise<void> {
  const row = await db.selectFrom("tenants").select(["storedBytes", "limits"])
    .where("id", "=", tenant).executeTakeFirst();
  if (row === undefined) throw noTenant(tenant);
  checkQuota(tenant, { ...row, storedBytes: row.storedBytes + bytes }, bytes);
}

/** A tenant's row of an id; whether it was there. */
export async function removeRow(
  db: Db,
  table: KeptTable,
  { tenant, id }: { readonly tenant: string; readonly id: string },
): Promise<boolean> {
  const there = await db.selectFrom(table).select("id").where("tenant", "=", tenant)
    .where("id", "=", id).where("expiresAt", ">", Date.now()).executeTakeFirst();
  if (there === undefined) return false;
  return await transact(db, async (trx) => {
    // the tenant's row first, as all writers have it
    await charge(trx, tenant, 0);
    const row = await trx.deleteFrom(table).where("tenant", "=", tenant).where("id", "=", id)
      .returning("bytes").executeTakeFirst();
    if (row !== undefined) await charge(trx, tenant, -row.bytes);
    return row !== undefined;
  });
}

/** Takes away what has expired, tenant by tenant. */
export async function sweepKept(db: Db, now: number): Promise<void> {
  for (const table of ["responses", "chats"] as const) {
    const tenants = await db.selectFrom(table).select("tenant").distinct()
      .where("expiresAt", "<=", now).execute();
    for (const { tenant } of tenants) await sweepTenant(db, table, { tenant, now });
  }
}

async function sweepTenant(
  db: Db,
  table: KeptTable,
  { tenant, now }: { readonly tenant: string; readonly now: number },
): Promise<void> {
  try {
    await transact(db, async (trx) => {
      // the tenant's row first, as all writers have it
      await charge(trx, tenant, 0);
      const rows = await trx.deleteFrom(table).where("tenant", "=", tenant)
        .where("expiresAt", "<=", now).returning("bytes").execute();
      await charge(trx, tenant, -rows.reduce((sum, { bytes }) => sum + bytes, 0));
    });
  } catch (error) {
    // the tenant went meanwhile, with all that it had
    if (!(error instanceof GoneError)) throw error;
  }
}

/** Bytes of texts, as they count for a tenant's limit. */
export function bytesOf(texts: readonly string[]): number {
  const encoder = new TextEncoder();
  return texts.reduce((sum, text) => sum + encoder.encode(text).length, 0);
}

/** Gives up the responses that ran, where whoever did so is gone: nobody vouches for them any more. */
export async function forsakeRunning(db: Db): Promise<void> {
  await db.updateTable("responses").set({ runningUntil: 0 }).where("runningUntil", "is not", null)
    .execute();
}
