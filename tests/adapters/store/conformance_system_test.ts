/** One suite for both databases: whatever the store promises holds on SQLite and on PostgreSQL. */
import { openStore } from "../../../adapters/store/open_store.ts";
import type { Store } from "../../../adapters/store/store.ts";
import { BACKUP_CASES } from "./backups_suite.ts";
import { BATCH_CASES } from "./batches_suite.ts";
import type { Bench, Cases } from "./cases.ts";
import { CONVERSATION_CASES } from "./conversations_suite.ts";
import { CORE_CASES } from "./cores_suite.ts";
import { FILE_CASES } from "./files_suite.ts";
import { JOB_CASES } from "./jobs_suite.ts";
import { onPostgres } from "../../programs/postgres.ts";
import { startPostgres } from "./postgres_server.ts";
import { CHAT_CASES } from "./chats_suite.ts";
import { RESPONSE_CASES } from "./responses_suite.ts";
import { SCHEMA_CASES } from "./schema_suite.ts";
import { TENANT_CASES } from "./tenants_suite.ts";
import { keepingLog, openTestStore } from "./test_store.ts";
import { UPLOAD_CASES } from "./uploads_suite.ts";

const SUITES: Readonly<Record<string, Cases>> = {
  schema: SCHEMA_CASES,
  tenants: TENANT_CASES,
  files: FILE_CASES,
  uploads: UPLOAD_CASES,
  batches: BATCH_CASES,
  cores: CORE_CASES,
  jobs: JOB_CASES,
  responses: RESPONSE_CASES,
  chats: CHAT_CASES,
  conversations: CONVERSATION_CASES,
  backups: BACKUP_CASES,
};

function benchOf(store: Store, log: Bench["log"]): Bench {
  let tenants = 0;
  const newTenant = async () => (await store.tenants.create({ id: `tenant${++tenants}` })).id;
  return { store, log, newTenant };
}

async function runAll(t: Deno.TestContext, bench: Bench): Promise<void> {
  for (const [name, cases] of Object.entries(SUITES)) {
    for (const [sentence, run] of Object.entries(cases)) {
      await t.step(`${name}: ${sentence}`, () => run(bench));
    }
  }
}

Deno.test("the store keeps its promises on SQLite", async (t) => {
  const log = keepingLog();
  await using opened = await openTestStore(log);
  await runAll(t, benchOf(opened.store, log));
});

Deno.test({
  ...onPostgres("the store keeps its promises on PostgreSQL"),
  fn: async (t) => {
    await using server = await startPostgres();
    const log = keepingLog();
    const url = await server.newDatabase();
    await using store = await openStore({ type: "url", url }, log);
    await runAll(t, benchOf(store, log));
  },
});
