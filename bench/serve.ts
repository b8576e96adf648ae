/**
 * The serve bench: the load client against a server over HTTP, one popularity after the other in
 * turns, by medians. It owns the server's process where it starts one, and the adapters it loads
 * there; any OpenAI-compatible server can be measured by its URL.
 */
import { type LoadReport, runLoad } from "./load.ts";
import { median, round, type Spread, spread } from "./stats.ts";
import { type Arrivals, type Lengths, planWorkload, type Popularity } from "./workload.ts";

/** A server that answers. */
export interface ServedTarget {
  readonly url: string;
  readonly base: string;
  readonly adapter: (k: number) => string;
  readonly apiKey?: string;
}

export interface ServeOptions {
  readonly popularities: readonly { readonly name: string; readonly popularity: Popularity }[];
  readonly requests: number;
  readonly prompt: Lengths;
  readonly output: Lengths;
  readonly arrivals: Arrivals;
  readonly rounds: number;
  readonly seed: number;
}

export interface ServeFigure {
  readonly popularity: string;
  readonly outputTokensPerSecond: Spread;
  /** Against the first popularity, the median of the rounds' ratios. */
  readonly ratio: number;
  /** The round of median throughput, whole. */
  readonly middle: LoadReport;
}

/** Prompt tokens avoid the vocabulary's ends, where special tokens and rare bytes live. */
const TOKENS: readonly [number, number] = [1000, 48000];

/** Runs each popularity once to warm up, then all of them in turns; `tell` gets a line for each run. */
export async function benchServe(
  target: ServedTarget,
  options: ServeOptions,
  tell: (line: string) => void,
): Promise<readonly ServeFigure[]> {
  let seed = options.seed;
  const run = async (popularity: Popularity, requests: number) => {
    const { prompt, output, arrivals } = options;
    const work = { seed: seed++, requests, popularity, prompt, output, arrivals, tokens: TOKENS };
    return await runLoad(planWorkload(work), { ...target, arrivals });
  };
  for (const { popularity } of options.popularities) {
    await run(popularity, Math.min(16, options.requests));
  }
  const reports = options.popularities.map((): LoadReport[] => []);
  for (let turn = 0; turn < options.rounds; turn++) {
    for (const [index, { name, popularity }] of options.popularities.entries()) {
      const report = await run(popularity, options.requests);
      reports[index]?.push(report);
      tell(describe(name, report));
    }
  }
  return options.popularities.map(({ name }, index) => figureOf(name, reports[index], reports[0]));
}

function figureOf(
  popularity: string,
  own: readonly LoadReport[] = [],
  first: readonly LoadReport[] = [],
): ServeFigure {
  const speeds = own.map((one) => one.outputTokensPerSecond);
  const middle = own.toSorted((a, b) => a.outputTokensPerSecond - b.outputTokensPerSecond)[
    own.length >> 1
  ];
  if (middle === undefined) throw new RangeError("Cannot report: no round was run");
  const ratios = speeds.map((speed, i) => speed / (first[i]?.outputTokensPerSecond ?? NaN));
  return {
    popularity,
    outputTokensPerSecond: spread(speeds),
    ratio: round(median(ratios), 3),
    middle,
  };
}

function describe(name: string, { outputTokensPerSecond, ttft, interToken }: LoadReport): string {
  const ms = ({ p50, p95, p99 }: LoadReport["ttft"]) => `${p50}/${p95}/${p99} ms`;
  return `  ${name.padEnd(14)} ${outputTokensPerSecond} tok/s, first token ${ms(ttft)}, ` +
    `between tokens ${ms(interToken)} (p50/p95/p99)`;
}

/**
 * The id of the server's base model: the first that `/v1/models` lists.
 * @throws {Error} where the server answers otherwise.
 */
export async function baseModelOf(url: string, apiKey: string | undefined): Promise<string> {
  const headers: Record<string, string> = apiKey === undefined
    ? {}
    : { authorization: `Bearer ${apiKey}` };
  const response = await fetch(`${url}/v1/models`, { headers });
  const text = await response.text();
  const id = response.ok ? JSON.parse(text).data?.[0]?.id : undefined;
  if (typeof id !== "string") {
    throw new Error(`Cannot list models at ${url}: ${response.status} ${text.slice(0, 200)}`);
  }
  return id;
}

/** Loads each core file under the name `bench/a{k}`. */
export async function loadAdapters(url: string, cores: readonly string[]): Promise<void> {
  for (const [k, path] of cores.entries()) {
    const response = await fetch(`${url}/v1/load_lora_adapter`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ "lora_name": `bench/a${k}`, "lora_path": path }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`Cannot load ${path}: ${response.status} ${text}`);
  }
}

/** A server of this tree in a process of its own. */
export class ServerProcess implements AsyncDisposable {
  private constructor(readonly url: string, readonly child: Deno.ChildProcess) {}

  /**
   * Starts `server/cli/serve.ts` on a free port and waits until it answers.
   * @throws {Error} where it ends, or does not answer within `seconds`.
   */
  static async start(args: readonly string[], seconds = 120): Promise<ServerProcess> {
    const port = freePort();
    const main = new URL("../server/cli/serve.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", main, "--port", String(port), ...args],
      clearEnv: true,
      env: quietEnvironment(),
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    const url = `http://127.0.0.1:${port}`;
    await untilItAnswers(url, child, seconds);
    return new ServerProcess(url, child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.child.kill("SIGTERM");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended by itself
    }
    await this.child.status;
  }
}

/**
 * Waits until a server that was just started answers.
 * @throws {Error} where it ends, or does not answer within `seconds`; it is ended then.
 */
export async function untilItAnswers(
  url: string,
  child: Deno.ChildProcess,
  seconds = 120,
): Promise<void> {
  let ended = false;
  child.status.then(() => ended = true);
  const deadline = performance.now() + seconds * 1e3;
  while (!await answers(url)) {
    if (ended) throw new Error("Cannot bench: the server ended before it answered");
    if (performance.now() > deadline) {
      child.kill("SIGTERM");
      await child.status;
      throw new Error(`Cannot bench: the server did not answer within ${seconds} s`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/health`);
    await response.body?.cancel();
    return response.ok;
  } catch (error) {
    if (error instanceof TypeError) return false; // nobody listens yet
    throw error;
  }
}

/** The user's environment without what would make it another server than the bench's own. */
function quietEnvironment(): Record<string, string> {
  const own = (name: string) =>
    name !== "DATABASE_URL" && (!name.startsWith("LEMBAS_") || name === "LEMBAS_HOME");
  return Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => own(name)));
}

/** A port that nobody listens on. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
