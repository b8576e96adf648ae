/**
 * Some tenants' requests beside one tenant's flood, over HTTP. It owns both loads and what is made of
 * their traces; the server may be any lembas in open mode, where a header says whose a request is.
 */
import { reportOf, type Trace, traceLoad } from "../load.ts";
import { median, percentile, round } from "../stats.ts";
import { planWorkload } from "../workload.ts";
import type { FloodFlags, Phase } from "./flags.ts";

const TENANT_HEADER = "lembas-tenant";
/** Prompt tokens avoid the vocabulary's ends, where special tokens and rare bytes live. */
const TOKENS: readonly [number, number] = [1000, 48000];
/** How far prompts of two phases' same seed lie apart: no phase finds another's prefixes. */
const SHIFT: Readonly<Record<Phase, number>> = { quiet: 0, flood: 1, shared: 2 };
/** Before a phase is measured: until the flood has every slot that it can have. */
const SETTLE_MILLISECONDS = 3000;

/** One phase; milliseconds and tokens a second. */
export interface PhaseFigures {
  readonly phase: Phase;
  /** Requests of the others. */
  readonly requests: number;
  /** Their first tokens. */
  readonly ttft: readonly number[];
  readonly interToken: { readonly p50: number; readonly p95: number };
  readonly othersTokensPerSecond: number;
  readonly floodTokensPerSecond: number;
}

export interface FloodTarget {
  readonly url: string;
  readonly base: string;
}

export class FloodBench {
  readonly #target: FloodTarget;
  readonly #flags: FloodFlags;

  constructor(target: FloodTarget, flags: FloodFlags) {
    this.#target = target;
    this.#flags = flags;
  }

  /** Sends a few requests, so that nothing is done for the first time later. */
  async warm(): Promise<void> {
    await this.#others("quiet", this.#flags.seed, 2);
  }

  /** The others' arrivals are the same in all phases of a round, their prompts never. */
  async run(phase: Phase, round: number): Promise<PhaseFigures> {
    const seed = this.#flags.seed + 1 + round;
    if (phase === "quiet") return await this.#measured(phase, seed, () => 0);
    const flood = new Flood(this.#target, this.#flags, seed);
    try {
      await flood.settled();
      return await this.#measured(phase, seed, () => flood.tokens);
    } finally {
      await flood.stop();
    }
  }

  async #measured(
    phase: Phase,
    seed: number,
    floodTokens: () => number,
  ): Promise<PhaseFigures> {
    const before = floodTokens();
    const start = performance.now();
    const traces = await this.#others(phase, seed);
    const seconds = (performance.now() - start) / 1e3;
    const { interToken, outputTokensPerSecond } = reportOf(traces, seconds);
    return {
      phase,
      requests: traces.length,
      ttft: traces.flatMap(({ sent, events }) => events.slice(0, 1).map((at) => at - sent)),
      interToken: { p50: interToken.p50, p95: interToken.p95 },
      othersTokensPerSecond: outputTokensPerSecond,
      floodTokensPerSecond: round((floodTokens() - before) / seconds, 1),
    };
  }

  /** Every tenant's open loop, side by side. */
  async #others(
    phase: Phase,
    seed: number,
    seconds = this.#flags.seconds,
  ): Promise<readonly Trace[]> {
    const { tenants, rate, prompt, output } = this.#flags;
    const arrivals = { type: "open", rate } as const;
    const traces = await Promise.all(Array.from({ length: tenants }, (_, tenant) => {
      const plan = planWorkload({
        seed: 1000 * seed + tenant,
        requests: Math.ceil(2 * seconds * rate) + 8,
        popularity: { type: "base" },
        prompt: { type: "fixed", tokens: prompt },
        output: { type: "fixed", tokens: output },
        arrivals,
        tokens: [TOKENS[0] + SHIFT[phase], TOKENS[1] + SHIFT[phase]],
      }).filter(({ at }) => at < seconds);
      const name = phase === "shared" ? "flood" : `tenant-${tenant}`;
      return traceLoad(plan, {
        ...this.#target,
        adapter: String,
        arrivals,
        headers: { [TENANT_HEADER]: name },
      });
    }));
    return traces.flat();
  }
}

/** A tenant that sends as many requests at once as it has clients, again and again. */
class Flood {
  /** Tokens of its answers so far. */
  tokens = 0;
  readonly #target: FloodTarget;
  readonly #flags: FloodFlags;
  readonly #abort = new AbortController();
  readonly #clients: Promise<void>[];
  #failure: unknown;

  constructor(target: FloodTarget, flags: FloodFlags, seed: number) {
    this.#target = target;
    this.#flags = flags;
    this.#clients = Array.from(
      { length: flags.clients },
      (_, client) => this.#client(seed * 1000 + client),
    );
  }

  async settled(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MILLISECONDS));
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** @throws what made a client fail before */
  async stop(): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#clients);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #client(seed: number): Promise<void> {
    using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
    const { floodPrompt, floodOutput } = this.#flags;
    const plan = planWorkload({
      seed,
      requests: 1000,
      popularity: { type: "base" },
      prompt: { type: "fixed", tokens: floodPrompt },
      output: { type: "fixed", tokens: floodOutput },
      arrivals: { type: "closed", clients: 1 },
      tokens: TOKENS,
    });
    try {
      for (const { prompt } of plan) await this.#ask(prompt, client);
    } catch (error) {
      if (!this.#abort.signal.aborted) this.#failure ??= error;
    }
  }

  /** Streams an answer, and counts its events without reading them: the client must stay cheap. */
  async #ask(prompt: readonly number[], client: Deno.HttpClient): Promise<void> {
    const response = await fetch(`${this.#target.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", [TENANT_HEADER]: "flood" },
      body: JSON.stringify({
        model: this.#target.base,
        prompt,
        "max_tokens": this.#flags.floodOutput,
        temperature: 0,
        stream: true,
        "ignore_eos": true,
      }),
      client,
      signal: this.#abort.signal,
    });
    if (!response.ok || response.body === null) {
      throw new Error(`HTTP ${response.status}: ${(await response.text()).slice(0, 500)}`);
    }
    for await (const bytes of response.body) this.tokens += eventsIn(bytes);
  }
}

/** Events end with an empty line: two line feeds. */
function eventsIn(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, at + 1)) {
    if (bytes[at + 1] === 10) count++;
  }
  return count;
}

export interface PhaseSummary {
  readonly phase: Phase;
  readonly requests: number;
  readonly p50: number;
  readonly p95: number;
  /** p95 over the quiet phase's, all rounds together; undefined without one. */
  readonly ratio: number | undefined;
  readonly interTokenP95: number;
  readonly othersTokensPerSecond: number;
  readonly floodTokensPerSecond: number;
}

/** A line for each phase, over all rounds. */
export function summaryOf(figures: readonly PhaseFigures[]): readonly PhaseSummary[] {
  const names = [...new Set(figures.map(({ phase }) => phase))];
  const p95Of = (phase: Phase) =>
    percentile(figures.filter((one) => one.phase === phase).flatMap((one) => one.ttft), 0.95);
  return names.map((phase) => {
    const own = figures.filter((one) => one.phase === phase);
    const ttft = own.flatMap((one) => one.ttft);
    return {
      phase,
      requests: ttft.length,
      p50: round(percentile(ttft, 0.5), 1),
      p95: round(percentile(ttft, 0.95), 1),
      ratio: names.includes("quiet") ? round(p95Of(phase) / p95Of("quiet"), 2) : undefined,
      interTokenP95: round(median(own.map((one) => one.interToken.p95)), 1),
      othersTokensPerSecond: round(median(own.map((one) => one.othersTokensPerSecond)), 1),
      floodTokensPerSecond: round(median(own.map((one) => one.floodTokensPerSecond)), 1),
    };
  });
}
