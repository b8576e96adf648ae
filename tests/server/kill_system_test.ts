// deno-lint-ignore-file no-console -- the moments of the kills and the times belong in the output
/**
 * kill -9 of a whole server while clients upload, train, publish and ask: nothing acknowledged is
 * lost, and usage adds up. LEMBAS_TEST_KILLS says how often (the long run is 20), LEMBAS_TEST_SEED
 * which moments.
 */
import { LONG } from "../long.ts";
import { assertEquals } from "@std/assert";
import { openStore, type StoreLocation } from "../../adapters/store/open_store.ts";
import { streamKey, uniformOf } from "../../src/util/random.ts";
import { onPostgres } from "../programs/postgres.ts";
import { startPostgres } from "../adapters/store/postgres_server.ts";
import { keepingLog, newDataDirectory } from "../adapters/store/test_store.ts";
import { fakeLoad } from "./engine_context.ts";
import { checkServed, checkStored, settleCores } from "./kill_audit.ts";
import { drive, exchange, Ledger, type Tenant, textOf } from "./kill_traffic.ts";
import { untilHolds } from "./replicas.ts";
import { ServerProcess } from "./server_process.ts";

const SCRIPT = new URL("./tuning_child.ts", import.meta.url);
const KILLS = Number(Deno.env.get("LEMBAS_TEST_KILLS") ?? (LONG ? 2 : 1));
const SEED = Number(Deno.env.get("LEMBAS_TEST_SEED") ?? 1);
/** A job and an answer come within seconds; the machine may have other things to do. */
const ACKNOWLEDGED_MS = 60_000;
const API_KEY = "the-administrators-key-of-this-test";
/** Every so many kills one falls into the start. */
const EARLY = 5;

interface Started {
  readonly process: ServerProcess;
  readonly url: string;
  /** Milliseconds from the process's start to the store's. */
  readonly openMs: number;
  readonly servingMs: number;
}

function launch(location: StoreLocation): ServerProcess {
  const args = ["--port", "0", "--open=false", "--api-key", API_KEY, "--train-jobs", "2"];
  const pace = { LEMBAS_TEST_STEP_MS: "4", LEMBAS_TEST_RUN_MS: "2" };
  return location.type === "url"
    ? new ServerProcess(SCRIPT, { args, env: { ...pace, DATABASE_URL: location.url } })
    : new ServerProcess(SCRIPT, { args, env: pace, data: location.path });
}

async function start(location: StoreLocation): Promise<Started> {
  const started = performance.now();
  const process = launch(location);
  await process.line(/the store is open/);
  const openMs = performance.now() - started;
  const url = await process.url();
  return { process, url, openMs, servingMs: performance.now() - started };
}

async function newTenant(url: string, id: string): Promise<Tenant> {
  const admin = { url, key: API_KEY };
  await exchange(admin, "POST", "/v1/admin/tenants", { id });
  const asked = { scopes: ["infer", "train"] };
  const path = `/v1/admin/tenants/${id}/keys`;
  const issued = JSON.parse(textOf(await exchange(admin, "POST", path, asked)));
  return { id, key: issued.key, keyId: issued.id };
}

/** Resolves when it is gone. */
async function kill(process: ServerProcess): Promise<void> {
  process.kill("SIGKILL");
  assertEquals((await process.ended()).code, 137);
}

class KillRun {
  readonly #location: StoreLocation;
  readonly #ledger = new Ledger();
  readonly #opens: number[] = [];
  readonly #key = streamKey(SEED, 0);
  #drawn = 0;
  #tenants: readonly Tenant[] = [];
  #servingMs = 0;

  constructor(location: StoreLocation) {
    this.#location = location;
  }

  async all(): Promise<void> {
    const { factors, close } = await fakeLoad();
    await close();
    const random = () => uniformOf(this.#key, this.#drawn++);
    const ledger = this.#ledger;
    for (let at = 1; at <= KILLS; at++) {
      if (at % EARLY === 0) await this.#killEarly(at, random() * this.#servingMs);
      else {
        const { url, process } = await this.#start();
        const options = { url, ledger, factors, random };
        await settleCores(this.#tenants, options);
        await this.#killDriven(
          at,
          300 + 1200 * random(),
          process,
          () => drive(this.#tenants, options),
        );
      }
    }
    const { url, process } = await this.#start();
    const options = { url, ledger, factors, random };
    await settleCores(this.#tenants, options);
    await checkServed(this.#tenants, options);
    process.kill("SIGTERM");
    assertEquals((await process.ended()).code, 0);
    await this.#checkStore();
  }

  async #start(): Promise<Started> {
    const started = await start(this.#location);
    this.#opens.push(started.openMs);
    this.#servingMs = started.servingMs;
    if (this.#tenants.length === 0) {
      this.#tenants = [
        await newTenant(started.url, "acme"),
        await newTenant(started.url, "globex"),
      ];
    }
    return started;
  }

  /** While it starts, from the data that the kill before has left. */
  async #killEarly(at: number, milliseconds: number): Promise<void> {
    const process = launch(this.#location);
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    console.log(`kill ${at}: ${milliseconds.toFixed(0)} ms after the process began`);
    await kill(process);
  }

  async #killDriven(
    at: number,
    milliseconds: number,
    process: ServerProcess,
    work: () => Promise<void>,
  ): Promise<void> {
    const working = work();
    const { jobs, answers } = this.#ledger;
    const isAcknowledged = () => Promise.resolve(jobs.size > 0 && answers.size > 0);
    await Promise.race([working, untilHolds(isAcknowledged, ACKNOWLEDGED_MS)]);
    await Promise.race([working, new Promise((resolve) => setTimeout(resolve, milliseconds))]);
    const times = `store open ${this.#opens.at(-1)?.toFixed(0)} ms after the process began, ` +
      `serving ${this.#servingMs.toFixed(0)} ms`;
    console.log(`kill ${at}: ${milliseconds.toFixed(0)} ms after it served (${times})`);
    await kill(process);
    await working;
  }

  async #checkStore(): Promise<void> {
    const started = performance.now();
    const log = keepingLog();
    await using store = await openStore(this.#location, log);
    const open = performance.now() - started;
    const { unseen } = await checkStored(store, this.#tenants, { ledger: this.#ledger });
    assertEquals(log.warnings, []);
    const { files, jobs, cores, answers, responses, broken } = this.#ledger;
    const versions = [...cores.values()].reduce((sum, { digests }) => sum + digests.size, 0);
    console.log(
      `${store.kind}, seed ${SEED}, ${KILLS} kills: ${files.size} files, ${jobs.size} jobs, ` +
        `${versions} core versions, ${answers.size} answers, ${responses.size} of them stored; broken off ${
          JSON.stringify(broken)
        }, ` +
        `of these answers ${unseen} counted; store open at most ` +
        `${Math.max(...this.#opens).toFixed(0)} ms after a process began, in ${
          open.toFixed(0)
        } ms ` +
        "by itself",
    );
  }
}

Deno.test("what a server acknowledged survives kill -9 on SQLite", async () => {
  const path = await newDataDirectory();
  try {
    await new KillRun({ type: "directory", path }).all();
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test({
  ...onPostgres("what a server acknowledged survives kill -9 on PostgreSQL"),
  fn: async () => {
    await using server = await startPostgres();
    await new KillRun({ type: "url", url: await server.newDatabase() }).all();
  },
});
