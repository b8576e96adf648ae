/** The queue on both databases: who is next, whose a job is, and what is left of a lost one. */
import { assert, assertEquals, assertExists, fail } from "@std/assert";
import { openStore } from "../../../adapters/store/open_store.ts";
import type { Lease, WorkItem, WorkQueue, WorkQueues } from "../../../server/jobs/work_queue.ts";
import { openQueues } from "../../../server/jobs/open_queues.ts";
import { onPostgres } from "../../programs/postgres.ts";
import { startPostgres } from "../../adapters/store/postgres_server.ts";
import { keepingLog, openTestStore } from "../../adapters/store/test_store.ts";

const START = Date.UTC(2026, 5);
const MOST = 16;

function item(tenant: string, second: number): WorkItem {
  return { job: `${tenant}${second}`, tenant, createdAt: START + 1000 * second };
}

async function take(queue: WorkQueue): Promise<Lease> {
  const lease = await queue.take(MOST);
  assertExists(lease);
  return lease;
}

async function takeAll(queue: WorkQueue): Promise<string[]> {
  const jobs: string[] = [];
  for (let lease = await queue.take(MOST); lease; lease = await queue.take(MOST)) {
    jobs.push(lease.item.job);
    lease.abandon();
  }
  return jobs;
}

async function suite(t: Deno.TestContext, queues: WorkQueues): Promise<void> {
  await t.step("the tenant with the fewest taken is next, with its earliest job", async () => {
    const queue = await queues.queue("fair");
    await queue.add([item("a", 1), item("a", 2), item("a", 3), item("a", 4), item("b", 9)]);
    await queue.add([item("b", 8)]);
    assertEquals(await takeAll(queue), ["a1", "b8", "a2", "b9", "a3", "a4"]);
  });
  await t.step("a job is there once, and at its old place when it comes back", async () => {
    const queue = await queues.queue("once");
    await queue.add([item("a", 1), item("a", 2)]);
    await queue.add([item("a", 1)]);
    const first = await take(queue);
    await queue.add([item("a", 1)]);
    await first.giveBack();
    assertEquals(await first.isHeld(), false);
    assertEquals(await takeAll(queue), ["a1", "a2"]);
  });
  await t.step("what is given back for later waits; what is ended is gone", async () => {
    const queue = await queues.queue("later");
    await queue.add([item("a", 1), item("a", 2)]);
    await (await take(queue)).giveBack(600);
    await (await take(queue)).end();
    assertEquals(await takeAll(queue), []);
    await queue.withdraw("a1");
    await queue.add([item("a", 1)]);
    assertEquals(await takeAll(queue), ["a1"]);
  });
  await t.step("a job that was withdrawn and comes again is not its old holder's", async () => {
    const queue = await queues.queue("withdrawn");
    await queue.add([item("a", 1)]);
    const old = await take(queue);
    assert(await old.isHeld());
    await queue.withdraw("a1");
    await queue.add([item("a", 1)]);
    const lease = await take(queue);
    assertEquals([await old.isHeld(), old.lost.aborted], [false, true]);
    await old.end();
    assert(await lease.isHeld());
    await lease.end();
    assertEquals(await takeAll(queue), []);
  });
}

Deno.test("jobs wait in the queue on SQLite", async (t) => {
  await using opened = await openTestStore();
  await using queues = await openQueues(opened.store.database, ({ message }) => fail(message));
  await suite(t, queues);
  await t.step("a queue that is opened again is empty: whoever had its jobs is dead", async () => {
    const queue = await queues.queue("again");
    await queue.add([item("a", 1), item("a", 2)]);
    (await take(queue)).abandon();
    const again = await queues.queue("again");
    assertEquals(await takeAll(again), []);
  });
});

Deno.test({
  ...onPostgres("jobs wait in the queue on PostgreSQL, for many processes"),
  fn: async (t) => {
    await using server = await startPostgres();
    const url = await server.newDatabase();
    await using store = await openStore({ type: "url", url }, keepingLog());
    await using other = await openStore({ type: "url", url }, keepingLog());
    const open = ({ database }: typeof store) =>
      openQueues(database, ({ message }) => fail(message));
    const [queues, others] = await Promise.all([open(store), open(other)]);
    await using _first = queues;
    await using _second = others;
    await suite(t, queues);
    await t.step("no two processes get one job", async () => {
      const [here, there] = [await queues.queue("shared"), await others.queue("shared")];
      await here.add(Array.from({ length: 12 }, (_, second) => item("a", second)));
      const taken = await Promise.all([takeAll(here), takeAll(there)]);
      assertEquals(taken.flat().length, 12);
      assertEquals(new Set(taken.flat()).size, 12);
    });
  },
});
