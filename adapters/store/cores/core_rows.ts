/**
 * Cores and LoRAs by digest: one row however many names, versions and checkpoints point to it. A core goes when
 * none does any more; a damaged one is set aside until it is put again.
 */
import { type AdapterContent, isLora } from "../../lora/adapter_file.ts";
import { rankOf } from "../../lora/lora_file.ts";
import { tell } from "../changes.ts";
import { readContent, removeContents, writeContent } from "../contents.ts";
import { type Db, LIST, transact, type Trx } from "../database/kysely.ts";
import type { CoreTable } from "../database/tables.ts";
import { DamagedError } from "../errors.ts";
import type { StoreLog } from "../log.ts";

/** Keeps a core or a LoRA; one that is there stays, a quarantined one is mended. */
export async function keepCore(trx: Trx, core: AdapterContent, file: Uint8Array): Promise<void> {
  const { digest, base } = core;
  const row = await trx.selectFrom("cores").select(["state", "content"])
    .where("digest", "=", digest).executeTakeFirst();
  if (row?.state === "stored") return;
  const { id: content } = await writeContent(trx, file);
  if (row === undefined) {
    await trx.insertInto("cores")
      .values({ digest, base, ...columnsOf(core), state: "stored", content }).execute();
    return;
  }
  await trx.updateTable("cores").set({ state: "stored", content }).where("digest", "=", digest)
    .execute();
  await removeContents(trx, [row.content]);
}

function columnsOf(core: AdapterContent): Pick<CoreTable, "factors" | "rank" | "ranks"> {
  if (!isLora(core)) return { factors: core.factors, rank: core.rank, ranks: null };
  return { factors: "", rank: rankOf(core.ranks), ranks: JSON.stringify(core.ranks) };
}

/** Removes those of these cores that nothing points to any more. */
export async function collectCores(trx: Trx, digests: readonly string[]): Promise<void> {
  const unique = [...new Set(digests)];
  for (let at = 0; at < unique.length; at += LIST) await collect(trx, unique.slice(at, at + LIST));
}

async function collect(trx: Trx, digests: readonly string[]): Promise<void> {
  const gone = await trx.deleteFrom("cores").where("digest", "in", digests)
    .where(({ not, exists, selectFrom }) =>
      not(exists(
        selectFrom("coreVersions").select("version")
          .whereRef("coreVersions.digest", "=", "cores.digest"),
      ))
    )
    .where(({ not, exists, selectFrom }) =>
      not(exists(
        selectFrom("checkpoints").select("step").whereRef("checkpoints.core", "=", "cores.digest"),
      ))
    )
    .returning("content").execute();
  await removeContents(trx, gone.map(({ content }) => content));
}

/**
 * A core file, checked.
 * @throws {RangeError} where there is none; {DamagedError} where it is, or was found, damaged
 */
export async function readCoreFile(
  db: Db,
  digest: string,
  log: StoreLog,
): Promise<Uint8Array<ArrayBuffer>> {
  const row = await db.selectFrom("cores").select(["state", "content"]).where("digest", "=", digest)
    .executeTakeFirst();
  if (row === undefined) throw new RangeError(`Cannot read core ${digest}: it is not stored`);
  if (row.state !== "stored") {
    throw new DamagedError(`Cannot read core ${digest}: it is quarantined; put it again`);
  }
  try {
    return await readContent(db, row.content);
  } catch (error) {
    // it may have gone between the two looks
    if (!(error instanceof DamagedError) || !await isStill(db, digest, row.content)) throw error;
    const names = await quarantine(db, digest);
    log.warning(`quarantined core ${digest} (${names.join(", ")}): ${error.message}`);
    throw new DamagedError(
      `Cannot read core ${digest} (${names.join(", ")}): ${error.message}; it is quarantined`,
      { cause: error },
    );
  }
}

async function isStill(db: Db, digest: string, content: number): Promise<boolean> {
  const row = await db.selectFrom("cores").select("content").where("digest", "=", digest)
    .executeTakeFirst();
  return row?.content === content;
}

/** Sets a core aside; returns the names that stood for it. */
function quarantine(db: Db, digest: string): Promise<readonly string[]> {
  return transact(db, async (trx) => {
    await trx.updateTable("cores").set({ state: "quarantined" }).where("digest", "=", digest)
      .execute();
    const versions = await trx.selectFrom("coreVersions").select(["tenant", "name", "version"])
      .where("digest", "=", digest).execute();
    for (const { tenant, name } of versions) await tell(trx, "core", { tenant, id: name });
    return versions.map(({ tenant, name, version }) => `${tenant}/${name}@${version}`);
  });
}
