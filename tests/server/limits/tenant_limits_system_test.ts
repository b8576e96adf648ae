/** Tenants' limits as read from a store that tells of changes. */
import { assertEquals, assertRejects } from "@std/assert";
import {
  type ChangeDetail,
  type ChangeKind,
  NO_LIMITS,
  type TenantRecord,
} from "../../../adapters/store/store.ts";
import { TenantLimitsReader } from "../../../server/limits/tenant_limits.ts";
import { openTestStore } from "../../adapters/store/test_store.ts";

/** A store of one tenant that counts how often it is asked. */
class OneTenant {
  asked = 0;
  weight = 1;
  gone = false;
  listeners = new Map<ChangeKind | "resync", (detail: ChangeDetail) => void>();
  readonly changes = {
    on: (kind: ChangeKind | "resync", listener: (detail: ChangeDetail) => void) => {
      this.listeners.set(kind, listener);
      return { [Symbol.dispose]: () => void this.listeners.delete(kind) };
    },
  };
  readonly tenants = {
    find: async (id: string): Promise<TenantRecord | undefined> => {
      this.asked++;
      const limits = { ...NO_LIMITS, weight: this.weight };
      await Promise.resolve();
      if (this.gone) throw new Error("the database is gone");
      return id === "acme" ? { id, createdAt: 0, limits } : undefined;
    },
  };
}

Deno.test("limits are read once, again when a change is told, and again after a while", async () => {
  let now = 0;
  const store = new OneTenant();
  using reader = new TenantLimitsReader({ ...store, now: () => now });
  const [first, second] = await Promise.all([reader.limitsOf("acme"), reader.limitsOf("acme")]);
  assertEquals([first.weight, second.weight, store.asked], [1, 1, 1]);
  store.weight = 2;
  assertEquals(await reader.limitsOf("acme"), first);
  store.listeners.get("tenant")?.({ tenant: "acme", id: "acme" });
  assertEquals((await reader.limitsOf("acme")).weight, 2);
  store.weight = 3;
  store.listeners.get("resync")?.({});
  assertEquals((await reader.limitsOf("acme")).weight, 3);
  store.weight = 4;
  now = 60_000;
  assertEquals((await reader.limitsOf("acme")).weight, 4);
  assertEquals(await reader.limitsOf("nobody"), NO_LIMITS);
});

Deno.test("what was read before a change is not kept after it", async () => {
  const store = new OneTenant();
  using reader = new TenantLimitsReader(store);
  const early = reader.limitsOf("acme");
  store.weight = 2;
  store.listeners.get("tenant")?.({ id: "acme" });
  assertEquals((await early).weight, 1);
  assertEquals((await reader.limitsOf("acme")).weight, 2);
});

Deno.test("without the store an older copy serves on; who has none is not guessed at", async () => {
  let now = 0;
  const store = new OneTenant();
  using reader = new TenantLimitsReader({ ...store, now: () => now });
  await reader.limitsOf("acme");
  store.gone = true;
  now = 60_000;
  assertEquals((await reader.limitsOf("acme")).weight, 1);
  await assertRejects(async () => await reader.limitsOf("other"), Error, "database is gone");
});

Deno.test("a limit changed in a real store holds within a second", async () => {
  await using opened = await openTestStore();
  const { store } = opened;
  await store.tenants.create({ id: "acme" });
  using reader = new TenantLimitsReader(store);
  assertEquals((await reader.limitsOf("acme")).requestsPerMinute, null);
  await store.tenants.update({ id: "acme", limits: { ...NO_LIMITS, requestsPerMinute: 7 } });
  const deadline = performance.now() + 1000;
  while ((await reader.limitsOf("acme")).requestsPerMinute !== 7) {
    if (performance.now() > deadline) throw new Error("the old limit still holds");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
});
