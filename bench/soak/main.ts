// deno-lint-ignore-file no-console -- a program that prints what it measures
/**
 * `deno task bench soak`: makes a shelf, starts a server on it, sends the steps, reads its memory in
 * between and its verdict at the end; ends in one line of JSON. Memory is read while requests run, and
 * nothing is forced before: no collection, no pause.
 */
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { describeMachine } from "../machine.ts";
import { baseModelOf } from "../serve.ts";
import { round } from "../stats.ts";
import { HELP, parseSoakFlags, type SoakFlags } from "./flags.ts";
import { type Memory, SoakServer, type Verdict } from "./server.ts";
import { makeShelf, type SoakShelf } from "./shelf.ts";
import { planSoak } from "./steps.ts";
import { type Tally, Traffic } from "./traffic.ts";

/** Resident memory at the end, over that of `--from`, of a soak at least `LONG` times as long. */
const MOST_GROWTH = 1.05;
const LONG = 10;

/** Memory after so many requests. */
interface Reading extends Memory {
  readonly requests: number;
}

export interface SoakFigures {
  readonly readings: readonly Reading[];
  /** The last reading's resident memory over that of `--from`; undefined where there is none yet. */
  readonly growth: number | undefined;
  readonly seconds: number;
  readonly serverErrors: number;
  readonly tally: Tally;
  readonly verdict: Verdict;
}

/** @throws {TypeError} for flags that cannot be; {Error} where an answer or the books are wrong */
export async function benchSoak(args: readonly string[]): Promise<void> {
  const flags = parseSoakFlags(args);
  if (flags === undefined) return console.log(HELP);
  const machine = await describeMachine();
  console.log(`${machine.cpu}, ${machine.cores} cores, Deno ${machine.deno}`);
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: "lembas_soak_" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const model = await resolveModel(flags.model);
  const { tenants, sets } = flags;
  const shelf = await makeShelf({ model, directory, tenants, sets });
  const server = stack.use(await startServer(flags, model, shelf));
  const figures = await soak(server, shelf, flags);
  console.log(JSON.stringify({ mode: "soak", machine, settings: flags, figures }));
  const fault = faultOf(figures, flags);
  if (fault !== undefined) throw new Error(`The soak failed: ${fault}`);
}

function startServer(flags: SoakFlags, model: string, shelf: SoakShelf): Promise<SoakServer> {
  const batch = flags.maxBatch === undefined ? [] : ["--max-batch", String(flags.maxBatch)];
  return SoakServer.start([
    ...["--model", model, "--data", shelf.data, "--adapters", shelf.adapters],
    ...["--kv-memory", String(flags.kvMemory), "--lane-memory", String(flags.laneMemory)],
    ...["--open", "true", ...batch],
  ]);
}

async function soak(
  server: SoakServer,
  shelf: SoakShelf,
  { requests, every, from, clients, seed, schemas }: SoakFlags,
): Promise<SoakFigures> {
  const base = await baseModelOf(server.url, undefined);
  const { tenants, files, guests } = shelf;
  const counts = { files: files.length, sets: guests.length, schemas };
  const steps = planSoak({ seed, base, tenants, ...counts });
  const traffic = new Traffic({ url: server.url, shelf });
  const readings: Reading[] = [];
  const read = async () => {
    const reading = { requests: traffic.tally.requests, ...await server.memory() };
    readings.push(reading);
    console.log(describe(reading));
  };
  const started = performance.now();
  await read();
  await traffic.begin();
  for (let at = every; at < requests + every; at += every) {
    await traffic.run(steps, Math.min(at, requests), clients);
    await read();
  }
  const seconds = round((performance.now() - started) / 1e3, 1);
  const tally = traffic.tally;
  const verdict = await server.stop();
  const serverErrors = Object.entries(tally.byStatus).reduce(
    (sum, [status, count]) => Number(status) >= 500 ? sum + count : sum,
    0,
  );
  return { readings, growth: growthOf(readings, from), seconds, serverErrors, tally, verdict };
}

function growthOf(readings: readonly Reading[], from: number): number | undefined {
  const first = readings.find(({ requests }) => requests >= from);
  const last = readings.at(-1);
  if (first === undefined || last === undefined || first === last) return undefined;
  return round(last.resident / first.resident, 3);
}

/** What is wrong with a soak; undefined where nothing is. Short ones say nothing of memory. */
function faultOf(
  { tally, verdict, growth = 1 }: SoakFigures,
  { requests, from }: SoakFlags,
): string | undefined {
  if (tally.wrong > 0) return `${tally.wrong} answers were wrong, as: ${tally.examples[0]}`;
  if (!verdict.integrity) return `the books were not found in order (code ${verdict.code})`;
  if (verdict.code !== 0) return `the server ended with code ${verdict.code}`;
  if (requests >= LONG * from && growth > MOST_GROWTH) {
    return `memory grew to ${growth} times what it was after ${from} requests`;
  }
  return undefined;
}

function describe({ requests, resident, anonymous }: Reading): string {
  return `  ${String(requests).padStart(6)} requests: ${resident} MB resident, ` +
    `${anonymous} MB of it anonymous`;
}
