/**
 * Very many different cores in a store: made from one random core by changing a few of its elements,
 * and put by the store's own `put`. It owns their names and how they differ; it measures nothing.
 */
import { type Core, coreFrom } from "../../adapters/lotr/core.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { writeCore, writeFactors } from "../../adapters/lotr/format.ts";
import type { Store } from "../../adapters/store/store.ts";
import { benchCore } from "../cores.ts";

/** Tenants that the cores are spread over. */
const TENANTS = 100;
/** Elements that tell one core from the next. */
const MARKS = 4;
/** Puts at once. */
const AT_ONCE = 8;
/** Names of a page. */
const PAGE = 5000;

export interface ShelfName {
  readonly tenant: string;
  readonly name: string;
}

/** Core number k is one of tenant `bench-NN`'s. */
export function shelfName(k: number): ShelfName {
  return { tenant: `bench-${k % TENANTS}`, name: `core-${k}` };
}

/** Registers what is missing of so many cores; `tell` hears how far it is. */
export async function fillShelf(
  store: Store,
  factors: FactorSet,
  count: number,
  tell: (line: string) => void,
): Promise<void> {
  await store.factors.add(factors.digest, writeFactors(factors));
  for (let k = 0; k < Math.min(TENANTS, count); k++) {
    await store.tenants.ensure(shelfName(k).tenant);
  }
  const first = benchCore(factors, 0);
  const known = await namesIn(store);
  let done = 0;
  const missing = Iterator.from(Array(count).keys()).filter((k) => !known.has(shelfName(k).name));
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const k of missing) {
      const bytes = writeCore(shelfCore(first, factors, k), "float16");
      const { tenant, name } = shelfName(k);
      await store.cores.put(tenant, name, bytes, { source: "bench", publish: "now" });
      if (++done % PAGE === 0) tell(`  ${known.size + done} of ${count} cores registered`);
    }
  }));
}

/** `first` with a number written into its first elements. */
function shelfCore(first: Core, factors: FactorSet, k: number): Core {
  const values = Float32Array.from(first.cores);
  // small whole numbers times a power of two: exact in float16
  for (let mark = 0; mark < MARKS; mark++) values[mark] = ((k >> (8 * mark)) & 255) / 2 ** 16;
  return coreFrom(factors, first.rank, values);
}

async function namesIn(store: Store): Promise<ReadonlySet<string>> {
  const names = new Set<string>();
  let after: string | undefined;
  for (let more = true; more;) {
    const { items, hasMore } = await store.cores.list(undefined, {
      ...{ after, limit: PAGE, order: "asc" },
    });
    for (const { name } of items) names.add(name);
    const last = items.at(-1);
    after = last && `${last.tenant}/${last.name}`;
    more = hasMore;
  }
  return names;
}
