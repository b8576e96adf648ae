/**
 * `bench train traffic`: clients stream from a real server while a fine-tuning job trains on it.
 * Phases in turns: clients alone (the job is paused), the job alone, both; what the gaps between
 * tokens become, and what the job gets of the time that serving leaves free.
 */
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { type LoadReport, runLoad } from "../load.ts";
import { baseModelOf, ServerProcess } from "../serve.ts";
import { median, round } from "../stats.ts";
import { planWorkload } from "../workload.ts";
import type { TrafficFlags } from "./flags.ts";
import { metered, type Reading, sleep, TuningJob, untilTrained } from "./tuning_job.ts";

const TASK = "question";
/** Rows that evaluations go by: as few as there can be, so that steps are nearly all of the work. */
const VALID = 1;
/** Seconds in which the job is alone. */
const IDLE_SECONDS = 20;
/** Prompt tokens avoid the vocabulary's ends, where special tokens and rare bytes live. */
const TOKENS: readonly [number, number] = [1000, 48000];

/** What one round measured; milliseconds and tokens a second. */
export interface TrafficRound {
  readonly quiet: Gaps;
  readonly training: Gaps;
  /** The job's pace with no clients. */
  readonly idle: number;
  /** Its pace beside the clients. */
  readonly beside: number;
  /** Share of the device's time that serving left free while both ran. */
  readonly free: number;
}

export interface Gaps {
  readonly p50: number;
  readonly p99: number;
  readonly longest: number;
  readonly tokensPerSecond: number;
}

export async function benchTraffic(
  flags: TrafficFlags,
  tell: (line: string) => void,
): Promise<unknown> {
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: "lembas_bench_" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const server = stack.use(await startServer(flags, directory));
  const base = await baseModelOf(server.url, undefined);
  const bench = new TrafficBench(server.url, base, flags);
  await bench.load(flags.clients);
  const job = await TuningJob.create(server.url, base, await rowsOf(flags));
  tell("  the job begins; the first one of a base waits for its factor set");
  await untilTrained(server.url);
  const rounds: TrafficRound[] = [];
  for (let turn = 0; turn < flags.rounds; turn++) {
    const round = await bench.round(job);
    rounds.push(round);
    tell(describe(round));
  }
  await job.cancel();
  const summary = summaryOf(rounds);
  tell(`  medians: ${JSON.stringify(summary)}`);
  return { rounds, summary };
}

async function startServer(flags: TrafficFlags, directory: string): Promise<ServerProcess> {
  return await ServerProcess.start([
    "--model",
    await resolveModel(flags.model),
    "--data",
    directory,
    "--train-share",
    String(flags.trainShare),
    "--log-level",
    "warning",
  ]);
}

async function rowsOf({ data }: TrafficFlags): Promise<{ train: string; valid: string }> {
  const valid = await Deno.readTextFile(`${data}/${TASK}.valid.jsonl`);
  return {
    train: await Deno.readTextFile(`${data}/${TASK}.train.jsonl`),
    valid: valid.split("\n").slice(0, VALID).join("\n") + "\n",
  };
}

class TrafficBench {
  readonly #url: string;
  readonly #base: string;
  readonly #flags: TrafficFlags;
  #seed = 1;

  constructor(url: string, base: string, flags: TrafficFlags) {
    this.#url = url;
    this.#base = base;
    this.#flags = flags;
  }

  /** Clients alone, the job alone, both. */
  async round(job: TuningJob): Promise<TrafficRound> {
    const { requests } = this.#flags;
    await job.pause();
    const quiet = gapsOf(await this.load(requests));
    await job.resume();
    await untilTrained(this.#url);
    const alone = await metered(this.#url, () => sleep(IDLE_SECONDS * 1e3));
    const both = await metered(this.#url, () => this.load(requests));
    return {
      quiet,
      training: gapsOf(both.result),
      idle: round(alone.reading.tokensPerSecond, 1),
      beside: round(both.reading.tokensPerSecond, 1),
      free: round(freeOf(both.reading), 3),
    };
  }

  /** Every client sends its next request when its last one is answered. */
  async load(requests: number): Promise<LoadReport> {
    const { clients, prompt, output } = this.#flags;
    const arrivals = { type: "closed", clients } as const;
    const plan = planWorkload({
      seed: this.#seed++,
      requests,
      popularity: { type: "base" },
      prompt: { type: "fixed", tokens: prompt },
      output: { type: "fixed", tokens: output },
      arrivals,
      tokens: TOKENS,
    });
    return await runLoad(plan, { url: this.#url, base: this.#base, adapter: String, arrivals });
  }
}

function gapsOf({ interToken, longestGap, outputTokensPerSecond }: LoadReport): Gaps {
  const { p50, p99 } = interToken;
  return { p50, p99, longest: longestGap, tokensPerSecond: outputTokensPerSecond };
}

function freeOf({ serving }: Reading): number {
  return Math.max(0, 1 - serving);
}

export interface TrafficSummary {
  /** With the job over without, medians over rounds. */
  readonly p99Ratio: number;
  readonly longestRatio: number;
  /** The job's pace over (its idle pace × the time that serving left free). */
  readonly shareOfFree: number;
}

export function summaryOf(rounds: readonly TrafficRound[]): TrafficSummary {
  const over = (of: (one: TrafficRound) => number) => round(median(rounds.map(of)), 2);
  return {
    p99Ratio: over(({ quiet, training }) => training.p99 / quiet.p99),
    longestRatio: over(({ quiet, training }) => training.longest / quiet.longest),
    shareOfFree: over(({ idle, beside, free }) => beside / (idle * free)),
  };
}

function describe({ quiet, training, idle, beside, free }: TrafficRound): string {
  const gaps = ({ p50, p99, longest, tokensPerSecond }: Gaps) =>
    `${p50}/${p99}/${longest} ms, ${tokensPerSecond} tok/s`;
  return `  between tokens (p50/p99/longest) quiet ${gaps(quiet)}; training ${gaps(training)}\n` +
    `  the job: ${idle} tok/s alone, ${beside} beside serving, which left ` +
    `${(100 * free).toFixed(0)}% free: ${(100 * beside / (idle * free)).toFixed(0)}% of that`;
}
