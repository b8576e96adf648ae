/** The policy between tenants: who is next, who gives way, and what heavy demand may have. */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { type Account, EQUAL_STANDING, Ledger } from "../../../src/engine/policy/accounts.ts";
import {
  planPreemption,
  planPrefill,
  type PrefillPlan,
} from "../../../src/engine/policy/scheduler.ts";
import type { Sequence } from "../../../src/engine/sequence.ts";
import { Shares } from "../../../src/engine/policy/queue.ts";
import { seeded } from "../harness.ts";
import { Line, newLane } from "./waiting_line.ts";

function admitted(plan: PrefillPlan): readonly Sequence[] {
  if (plan.kind === "batch") return plan.sequences;
  return plan.kind === "none" ? [] : [plan.sequence];
}

function victims(plan: PrefillPlan): readonly Sequence[] {
  return plan.kind === "batch" || plan.kind === "single" ? plan.victims : [];
}

function tenants(sequences: readonly Sequence[]): string {
  return sequences.map(({ account }) => account.tenant).join("");
}

Deno.test("whoever has been served least for its weight goes first", () => {
  const line = new Line();
  const lane = newLane();
  const [a, b, c] = [line.account("a"), line.account("b"), line.account("c")];
  b.chargePrompt(50);
  line.waiting(lane, 30, { tenant: "b" });
  a.chargePrompt(100);
  for (const tenant of ["a", "c", "c"]) line.waiting(lane, 30, { tenant });
  // c came when others waited: it is lifted to b, and goes after it
  assertEquals([a.served, b.served, c.served], [100, 50, 50]);
  assertEquals(tenants(line.order()), "bcca");
});

Deno.test("a weight divides what is charged, a lower priority number goes before any counter", () => {
  const line = new Line();
  const lane = newLane();
  for (let i = 0; i < 4; i++) {
    line.waiting(lane, 10, { tenant: "a" });
    line.waiting(lane, 10, { tenant: "b", standing: { weight: 3 } });
  }
  assertEquals(tenants(line.order()), "abbbabaa");
  const urgent = line.waiting(lane, 60, { tenant: "c", standing: { priority: -1 } });
  urgent.account.chargePrompt(1e6);
  assertEquals(tenants(line.order()), "cabbbabaa");
});

Deno.test("idling saves nothing up: who comes back is lifted to who waits, or to the most served", () => {
  const line = new Line();
  const lane = newLane();
  const busy = line.account("busy");
  line.waiting(lane, 10, { tenant: "busy" });
  busy.chargePrompt(5000);
  const back = line.waiting(lane, 10, { tenant: "back" });
  assertEquals(back.account.served, 5000);
  back.account.chargePrompt(7);
  for (const each of line.order()) line.queue.remove(each);
  assertEquals(line.waiting(lane, 10, { tenant: "late" }).account.served, 5007);
});

Deno.test("a newcomer takes a slot from the tenant that holds most, its newest row", () => {
  const line = new Line();
  const lane = newLane(4);
  const rows = ["a", "b", "a", "a"].map((tenant) => line.running(lane, 8, { tenant }));
  const guest = line.waiting(lane, 8, { tenant: "guest" });
  const plan = planPrefill(line.view(lane));
  assertEquals([admitted(plan), victims(plan)], [[guest], [rows[3]]]);
});

Deno.test("nobody takes a slot that could be taken back", () => {
  const line = new Line();
  const lane = newLane(4);
  for (const tenant of ["a", "b", "a", "b"]) line.running(lane, 8, { tenant });
  line.waiting(lane, 8, { tenant: "a" });
  assertEquals(planPrefill(line.view(lane)).kind, "none");
  const heavier = line.waiting(lane, 8, { tenant: "b", standing: { weight: 5 } });
  const plan = planPrefill(line.view(lane));
  assertEquals([admitted(plan), tenants(victims(plan))], [[heavier], "a"]);
});

Deno.test("several newcomers take several slots at once, and no tenant its last row", () => {
  const line = new Line();
  const lane = newLane(3);
  for (let i = 0; i < 3; i++) line.running(lane, 8, { tenant: "flood" });
  for (const tenant of ["x", "y", "z"]) line.waiting(lane, 8, { tenant });
  const plan = planPrefill(line.view(lane));
  assertEquals([tenants(admitted(plan)), tenants(victims(plan))], ["xy", "floodflood"]);
});

Deno.test("a tenant of lower priority gives way down to its last row", () => {
  const line = new Line();
  const lane = newLane(1);
  const row = line.running(lane, 8, { tenant: "batch", standing: { priority: 1 } });
  line.waiting(lane, 8, { tenant: "live" });
  assertEquals(victims(planPrefill(line.view(lane))), [row]);
  const other = new Line();
  const full = newLane(1);
  other.running(full, 8, { tenant: "live" });
  other.waiting(full, 8, { tenant: "batch", standing: { priority: 1 } });
  assertEquals(planPrefill(other.view(full)).kind, "none");
});

Deno.test("memory is shared like slots, for the first in line alone", () => {
  const line = new Line();
  const lane = newLane(8);
  const rows = [32, 32, 32].map((length) => line.running(lane, length + 1, { tenant: "flood" }));
  line.waiting(lane, 30, { tenant: "guest" });
  const plan = planPrefill(line.view(lane, { freeBytes: 490 }));
  assertEquals(victims(plan), [rows[2]]);
  assertEquals(planPrefill(line.view(lane, { freeBytes: 800 })).kind, "batch");
  const twice = new Line();
  const small = newLane(8);
  twice.running(small, 33, { tenant: "a" });
  twice.waiting(small, 30, { tenant: "b" });
  assertEquals(planPrefill(twice.view(small, { freeBytes: 170 })).kind, "none");
});

Deno.test("rows that grow take memory from the tenant that holds most", () => {
  const line = new Line();
  const lane = newLane(8);
  const rows = ["a", "a", "b"].map((tenant) => line.running(lane, 17, { tenant }));
  assertEquals(planPreemption(lane, lane.rows, 479), [rows[1]]);
  assertEquals(planPreemption(lane, lane.rows, 0), [rows[1], rows[2]]);
});

Deno.test("concurrency holds a tenant's further requests back, not others' behind them", () => {
  const line = new Line();
  const lane = newLane(4);
  const standing = { concurrency: 2 };
  line.running(lane, 8, { tenant: "a", standing });
  for (let i = 0; i < 3; i++) line.waiting(lane, 8, { tenant: "a", standing });
  line.waiting(lane, 8, { tenant: "b" });
  assertEquals(tenants(admitted(planPrefill(line.view(lane)))), "ba");
});

Deno.test("demand is heavy beside others who ask for much less, also when they have gone", () => {
  const ledger = new Ledger();
  const account = (tenant: string, live: number, now: number, weight = 1) => {
    const found = ledger.account(tenant, { ...EQUAL_STANDING, weight }, now);
    found.live = live;
    return found;
  };
  const flood = account("flood", 40, 0);
  assertEquals(ledger.heavy(0).size, 0);
  const light = account("light", 0, 0);
  assertEquals([...ledger.heavy(30_000)], [flood]);
  assertEquals(ledger.heavy(90_000).size, 0);
  light.live = 10;
  assertEquals(ledger.heavy(90_000).size, 0);
  light.live = 9;
  assertEquals([...ledger.heavy(90_000)], [flood]);
  account("flood", 40, 0, 2);
  assertEquals(ledger.heavy(90_000).size, 0);
});

Deno.test("a heavy tenant keeps to part of the slots, to short runs, and to itself", () => {
  const line = new Line();
  const lane = newLane(8);
  lane.continued = true;
  const flood = line.account("flood");
  const heavy: ReadonlySet<Account> = new Set([flood]);
  const guest = line.waiting(lane, 20, { tenant: "guest" });
  for (let i = 0; i < 9; i++) line.waiting(lane, 20, { tenant: "flood" });
  const first = planPrefill(line.view(lane, { heavy }));
  assertEquals([admitted(first), first.kind === "batch" && first.urgent], [[guest], true]);
  line.queue.remove(guest);
  const second = planPrefill(line.view(lane, { heavy }));
  assertEquals(tenants(admitted(second)), "floodfloodflood");
  for (let i = 0; i < 3; i++) line.running(lane, 8, { tenant: "flood" });
  assertEquals(planPrefill(line.view(lane, { heavy })).kind, "none");
});

Deno.test("anyone's prompt goes before a heavy tenant's chunks, as far as it is owed", () => {
  const line = new Line();
  const lane = newLane(8);
  const partial = line.partial(lane, 200, { tenant: "flood" });
  const heavy: ReadonlySet<Account> = new Set([partial.account]);
  assert(planPrefill(line.view(lane, { heavy })).kind === "chunk");
  const long = line.waiting(lane, 100, { tenant: "guest" });
  const plan = planPrefill(line.view(lane, { heavy }));
  assert(plan.kind === "single" && plan.sequence === long && plan.urgent);
  long.account.chargePrompt(1000);
  assert(planPrefill(line.view(lane, { heavy })).kind === "chunk");
});

Deno.test("shares: a victim's tenant keeps no less for its weight than the taker has", () => {
  const random = seeded(11);
  let taken = 0;
  for (let round = 0; round < 300; round++) {
    const line = new Line();
    const lane = newLane(12);
    const weights = [1, 2, 0.5];
    for (let i = 0; i < 12; i++) {
      const which = Math.floor(random() ** 2 * 3);
      const standing = { weight: weights[which] ?? 1 };
      line.running(lane, 8 + Math.floor(random() * 40), { tenant: `t${which}`, standing });
    }
    const shares = new Shares(lane.rows, (row) => row.reserved);
    const taker = line.account(`t${Math.floor(random() * 3)}`, { weight: 1 });
    const size = Math.floor(random() * 400);
    const victim = shares.victimFor(taker, size);
    if (victim === undefined) continue;
    taken++;
    shares.remove(victim);
    shares.add(taker, size);
    assert(victim.account !== taker && shares.share(taker) <= shares.share(victim.account));
  }
  assertGreater(taken, 30);
});
