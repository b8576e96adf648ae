/**
 * What the suites of the stores' conformance share: cases that run on any store, each with tenants
 * of its own, and small cores.
 */
import { sql } from "kysely";
import type { Database } from "../../../adapters/store/database/database.ts";
import { readCore, writeCore } from "../../../adapters/lotr/format.ts";
import type { StoreLog } from "../../../adapters/store/log.ts";
import type { FileStore, PageQuery, Store } from "../../../adapters/store/store.ts";
import { readLora } from "../../../adapters/lora/lora_file.ts";
import { smallLora } from "../lora/small_loras.ts";
import { smallCore, smallFactors, STACK } from "../small.ts";

export interface Bench {
  readonly store: Store;
  readonly log: StoreLog & { readonly warnings: readonly string[] };
  /** A tenant that no other case has. */
  newTenant(): Promise<string>;
}

/** Cases by what they show, as a sentence. */
export type Cases = Readonly<Record<string, (bench: Bench) => Promise<void>>>;

export const ALL: PageQuery = { after: undefined, limit: 100, order: "desc" };

export const FACTORS = smallFactors();

export interface CoreFile {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly digest: string;
}

/** A core file of a seed; another seed, another digest. */
export function coreFile(seed: number): CoreFile {
  const bytes = writeCore(smallCore(FACTORS, seed));
  return { bytes, digest: readCore(bytes).digest };
}

/** A LoRA file of a seed. */
export function loraFile(seed: number): CoreFile {
  const bytes = smallLora(STACK, seed);
  return { bytes, digest: readLora(bytes).digest };
}

export function textBytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

export async function addFile(store: Store, tenant: string, text: string): Promise<string> {
  const source = ReadableStream.from([textBytes(text)]);
  await using staged = await store.forTenant(tenant).files.stage(source);
  return (await staged.commit({ filename: "x.jsonl", purpose: "fine-tune" })).id;
}

/** A file's whole content. */
export async function readFile(
  files: FileStore,
  id: string,
): Promise<Uint8Array<ArrayBuffer>> {
  return await new Response(await files.open(id)).bytes();
}

/** A file's whole content, as text. */
export async function readText(files: FileStore, id: string): Promise<string> {
  return new TextDecoder().decode(await readFile(files, id));
}

/** Runs SQL that both databases understand, or the one that the test has. */
export async function query(
  { db }: Pick<Database, "db">,
  text: string,
  // deno-lint-ignore no-explicit-any -- columns are the statement's
): Promise<Record<string, any>[]> {
  // deno-lint-ignore no-explicit-any -- as above
  return (await sql.raw<Record<string, any>>(text).execute(db.withoutPlugins())).rows;
}

/** Changes the stored bytes of what a table's row points to, behind the store's back. */
export async function damage(store: Store, table: string, where: string): Promise<void> {
  const { database: { db }, database } = store;
  const [row] = await query(database, `SELECT content FROM ${table} WHERE ${where}`);
  const chunk = await db.selectFrom("chunks").select(["seq", "data"])
    .where("content", "=", row?.content).orderBy("seq").executeTakeFirstOrThrow();
  const data = new Uint8Array(chunk.data);
  data[5] = ((data[5] ?? 0) + 1) % 256;
  await db.updateTable("chunks").set({ data }).where("content", "=", row?.content)
    .where("seq", "=", chunk.seq).execute();
}
