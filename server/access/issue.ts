/**
 * Making keys: the text that is told once, and the record that is kept. It owns what a new key is
 * and the first key of a store; who may ask for one is the routes'.
 */
import { DEFAULT_TENANT } from "../../adapters/catalog/name.ts";
import { type KeyRecord, SCOPES, type Store } from "../../adapters/store/store.ts";
import type { KeyHash } from "./key_hash.ts";
import { hintOf, newKeyText } from "./key_text.ts";

/** A key with its text, which is known only here and now. */
export interface IssuedKey {
  readonly record: KeyRecord;
  readonly text: string;
}

/** What one asks for. */
export type KeyOrder = Pick<KeyRecord, "tenant" | "name" | "scopes" | "expiresAt">;

/** The name of the key that a store gets at its first start. */
export const FIRST_KEY = "first administrator";

/** @throws {RangeError} where the tenant is not there */
export async function issueKey(
  { keys }: Pick<Store, "keys">,
  hash: KeyHash,
  order: KeyOrder,
): Promise<IssuedKey> {
  const text = newKeyText();
  const record = await keys.create({ ...order, hint: hintOf(text) }, hash(text));
  return { record, text };
}

/**
 * An administrator's key where the store has no usable key at all. Of several processes that start at
 * once, one gets it.
 */
export async function issueFirstKey(
  { keys }: Pick<Store, "keys">,
  hash: KeyHash,
): Promise<IssuedKey | undefined> {
  if (await keys.countUsable() > 0) return undefined;
  const tenant = DEFAULT_TENANT;
  const order = { tenant, name: FIRST_KEY, scopes: SCOPES, expiresAt: null };
  const issued = await issueKey({ keys }, hash, order);
  const page = { after: undefined, limit: 1000, order: "asc" } as const;
  const { items } = await keys.list(tenant, page);
  const first = items.find(({ name, revokedAt }) => name === FIRST_KEY && revokedAt === null);
  if (first === undefined || first.id === issued.record.id) return issued;
  await keys.revoke(tenant, issued.record.id);
  return undefined;
}
