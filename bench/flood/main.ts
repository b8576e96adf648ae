// deno-lint-ignore-file no-console -- a program that prints what it measures
/**
 * `deno task bench flood`: starts a server, runs the phases in turns, tells people what it measures
 * as it goes, and ends in one line of JSON. The loads are `flood.ts`'s.
 */
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { describeMachine } from "../machine.ts";
import { baseModelOf, ServerProcess } from "../serve.ts";
import { type FloodFlags, HELP, parseFloodFlags } from "./flags.ts";
import { FloodBench, type PhaseFigures, type PhaseSummary, summaryOf } from "./flood.ts";

/** @throws {TypeError} for flags that cannot be; {Error} where a request fails */
export async function benchFlood(args: readonly string[]): Promise<void> {
  const flags = parseFloodFlags(args);
  if (flags === undefined) return console.log(HELP);
  const machine = await describeMachine();
  console.log(`${machine.cpu}, ${machine.cores} cores, Deno ${machine.deno}`);
  await using stack = new AsyncDisposableStack();
  const url = flags.url ?? await startServer(flags, stack);
  const bench = new FloodBench({ url, base: await baseModelOf(url, undefined) }, flags);
  await bench.warm();
  const rounds: PhaseFigures[] = [];
  for (let turn = 0; turn < flags.rounds; turn++) {
    for (const phase of flags.only) {
      const figures = await bench.run(phase, turn);
      rounds.push(figures);
      console.log(describe(summaryOf([figures])[0]));
    }
  }
  const summary = summaryOf(rounds);
  console.log("all rounds");
  for (const phase of summary) console.log(describe(phase));
  console.log(JSON.stringify({ mode: "flood", machine, settings: flags, figures: summary }));
}

async function startServer(flags: FloodFlags, stack: AsyncDisposableStack): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "lembas_bench_" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const server = stack.use(
    await ServerProcess.start([
      "--model",
      await resolveModel(flags.model),
      "--data",
      directory,
      "--log-level",
      "warning",
      ...(flags.maxBatch === undefined ? [] : ["--max-batch", String(flags.maxBatch)]),
    ]),
  );
  return server.url;
}

function describe(summary: PhaseSummary | undefined): string {
  if (summary === undefined) return "";
  const { phase, requests, p50, p95, ratio, interTokenP95 } = summary;
  const { othersTokensPerSecond, floodTokensPerSecond } = summary;
  const times = ratio === undefined ? "" : `, ${ratio} times quiet`;
  return `  ${
    phase.padEnd(6)
  } ${requests} requests: first token p50 ${p50}, p95 ${p95} ms${times}; ` +
    `between tokens p95 ${interTokenP95} ms; others ${othersTokensPerSecond}, ` +
    `flood ${floodTokensPerSecond} tok/s`;
}
