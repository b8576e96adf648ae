// deno-lint-ignore-file no-console -- a program that prints what it measures
/**
 * `deno task bench cores`: registers very many cores, then runs traffic over all of them and over a
 * few in turns, and times cold ones; ends in one line of JSON. It owns the order; cores are
 * `shelf.ts`', cold ones `cold.ts`'.
 */
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { type Stack, stackOf } from "../../adapters/lotr/stack.ts";
import { openStore, type StoreLocation } from "../../adapters/store/open_store.ts";
import type { Store } from "../../adapters/store/store.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { benchFactors } from "../cores.ts";
import { type LoadReport, runLoad } from "../load.ts";
import { describeMachine } from "../machine.ts";
import { baseModelOf, ServerProcess } from "../serve.ts";
import { round, type Spread, spread } from "../stats.ts";
import { planWorkload, type Popularity } from "../workload.ts";
import { type BoundFigures, ColdBench, type ColdFigures } from "./cold.ts";
import { HELP, parseRegisteredFlags, type RegisteredFlags } from "./flags.ts";
import { fillShelf, shelfName } from "./shelf.ts";

/** Zipf's exponent. */
const S = 1;
/** Prompt tokens avoid the vocabulary's ends. */
const TOKENS: readonly [number, number] = [1000, 48000];

interface TrafficFigures {
  /** First token p95, ms, over all rounds. */
  readonly many: Spread;
  readonly few: Spread;
  /** Turn by turn. */
  readonly ratio: Spread;
  /** Of the server after the traffic, GB. */
  readonly residentMemory: number;
}

interface Figures {
  readonly traffic?: TrafficFigures;
  readonly cold?: ColdFigures;
  readonly bound?: BoundFigures;
}

/** The model that cores are registered for. */
interface Bench {
  readonly flags: RegisteredFlags;
  readonly path: string;
  readonly stack: Stack;
  readonly factors: FactorSet;
  readonly location: StoreLocation;
}

/** @throws {TypeError} for flags that cannot be; {Error} where a request fails */
export async function benchRegistered(args: readonly string[]): Promise<void> {
  const flags = parseRegisteredFlags(args);
  if (flags === undefined) return console.log(HELP);
  const machine = await describeMachine();
  console.log(`${machine.cpu}, ${machine.cores} cores, Deno ${machine.deno}`);
  await using stack = new AsyncDisposableStack();
  const bench = await openBench(flags, stack);
  await withStore(bench, (store) => fillShelf(store, bench.factors, flags.cores, console.log));
  const figures: Figures = {
    ...flags.only.includes("traffic") && { traffic: await traffic(bench) },
    ...await withStore(bench, (store) => loads(store, bench)),
  };
  const { databaseUrl, ...settings } = flags;
  const store = databaseUrl === undefined ? "sqlite" : "postgres";
  console.log(
    JSON.stringify({ mode: "cores", machine, settings: { ...settings, store }, figures }),
  );
}

async function openBench(flags: RegisteredFlags, stack: AsyncDisposableStack): Promise<Bench> {
  const path = await resolveModel(flags.model);
  const checkpoint = await openCheckpoint(path);
  stack.defer(() => checkpoint.close());
  const shape = stackOf(await checkpoint.digest(), checkpoint.config);
  const factors = benchFactors(shape, flags.rank);
  return { flags, path, stack: shape, factors, location: await locationOf(flags, stack) };
}

async function locationOf(
  { data, databaseUrl }: RegisteredFlags,
  stack: AsyncDisposableStack,
): Promise<StoreLocation> {
  if (databaseUrl !== undefined) return { type: "url", url: databaseUrl };
  if (data !== undefined) return { type: "directory", path: data };
  const path = await Deno.makeTempDir({ prefix: "lembas_bench_" });
  stack.defer(() => Deno.remove(path, { recursive: true }));
  return { type: "directory", path };
}

async function withStore<T>({ location }: Bench, use: (store: Store) => Promise<T>): Promise<T> {
  await using store = await openStore(location, { info: console.log, warning: console.log });
  return await use(store);
}

async function loads(store: Store, bench: Bench): Promise<Figures> {
  const { only, cores, coreMemory, seed, loads } = bench.flags;
  const { stack, factors } = bench;
  const open = () => new ColdBench({ store, stack, factors, cores, coreMemory, seed });
  let figures: Figures = {};
  if (only.includes("cold")) {
    using one = open();
    await one.load(Math.min(20, cores));
    const cold = await one.load(Math.min(loads, cores - 20));
    console.log(`  a cold core: p50 ${cold.p50}, p95 ${cold.p95}, p99 ${cold.p99} ms`);
    figures = { ...figures, cold };
  }
  if (only.includes("bound")) {
    using one = open();
    const bound = await one.fill();
    const { residentBytes, residentCores, evictions } = bound.metrics;
    console.log(
      `  ${bound.loads} cores loaded: ${residentCores} resident in ` +
        `${round(residentBytes / 1e9, 2)} GB, ${evictions} let go; ` +
        `resident memory ${bound.rss.before} GB before, ${bound.rss.most} at most`,
    );
    figures = { ...figures, bound };
  }
  return figures;
}

async function traffic(bench: Bench): Promise<TrafficFigures> {
  const { flags } = bench;
  await using server = await startServer(bench);
  const base = await baseModelOf(server.url, undefined);
  const arrivals = { type: "open", rate: flags.rate } as const;
  const run = async (adapters: number, seed: number): Promise<LoadReport> => {
    const popularity: Popularity = { type: "zipf", adapters, s: S };
    const plan = planWorkload({
      ...{ seed, requests: flags.requests, popularity, arrivals, tokens: TOKENS },
      prompt: { type: "fixed", tokens: flags.prompt },
      output: { type: "fixed", tokens: flags.output },
    });
    const report = await runLoad(plan, { url: server.url, base, adapter: fullName, arrivals });
    const { p50, p95, p99 } = report.ttft;
    const name = `${adapters} cores`.padEnd(14);
    console.log(`  ${name} first token p50 ${p50}, p95 ${p95}, p99 ${p99} ms`);
    return report;
  };
  await run(flags.few, flags.seed);
  const [many, few]: [number[], number[]] = [[], []];
  for (let turn = 1; turn <= flags.rounds; turn++) {
    // the same arrivals, lengths and draws; other cores
    few.push((await run(flags.few, flags.seed + turn)).ttft.p95);
    many.push((await run(flags.cores, flags.seed + turn)).ttft.p95);
  }
  const ratios = many.map((p95, turn) => p95 / (few[turn] ?? NaN));
  const figures = { many: spread(many), few: spread(few), ratio: spread(ratios, 2) };
  const residentMemory = round(await residentMemoryOf(server.url) / 1e9, 2);
  console.log(`  p95 over all cores ${figures.ratio.median} times that over ${flags.few}`);
  return { ...figures, residentMemory };
}

function fullName(k: number): string {
  const { tenant, name } = shelfName(k);
  return `${tenant}/${name}`;
}

function startServer({ flags, path, location }: Bench): Promise<ServerProcess> {
  const store = location.type === "url"
    ? ["--database-url", location.url]
    : ["--data", location.path];
  return ServerProcess.start([
    ...["--model", path, "--log-level", "warning", "--open", "true"],
    ...["--core-memory", String(flags.coreMemory), ...store],
  ]);
}

/** What the server's own metrics say. */
async function residentMemoryOf(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^process_resident_memory_bytes\S* (\S+)$/m.exec(text)?.[1]);
}
