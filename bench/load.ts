/**
 * A load client for OpenAI-compatible servers: sends a planned workload to `/v1/completions`,
 * streaming, a new connection per request, and stamps every event. It owns the wire and the clock;
 * what is asked is `workload.ts`'s affair, and which server answers is nobody's here.
 */
import { percentile, round } from "./stats.ts";
import type { Arrivals, PlannedRequest } from "./workload.ts";

export interface LoadOptions {
  /** `http://127.0.0.1:8000` */
  readonly url: string;
  /** The base model's name. */
  readonly base: string;
  /** The name of adapter k. */
  readonly adapter: (k: number) => string;
  readonly arrivals: Arrivals;
  readonly apiKey?: string;
  /** Fields added to each body, e.g. what switches a peer's prefix cache off. */
  readonly extra?: Readonly<Record<string, unknown>>;
  /** Sent with each request, e.g. what names its tenant. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Ends requests that are under way. */
  readonly signal?: AbortSignal;
}

/** What one request lived through; times in milliseconds of `performance.now()`. */
export interface Trace {
  readonly sent: number;
  /** When each event with a choice came. */
  readonly events: readonly number[];
  readonly ended: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

export interface Percentiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export interface LoadReport {
  readonly requests: number;
  readonly outputTokens: number;
  readonly seconds: number;
  readonly outputTokensPerSecond: number;
  readonly requestsPerSecond: number;
  /** From sending to the first event, ms. */
  readonly ttft: Percentiles;
  /** Between two events of a request, ms. */
  readonly interToken: Percentiles;
  /** The longest of these, ms. */
  readonly longestGap: number;
  /** From sending to the end, ms. */
  readonly endToEnd: Percentiles;
  readonly eventsPerRequest: number;
}

/**
 * Sends the whole plan and reports.
 * @throws {Error} with the server's own words at the first request that fails.
 */
export async function runLoad(
  plan: readonly PlannedRequest[],
  options: LoadOptions,
): Promise<LoadReport> {
  const start = performance.now();
  const traces = await traceLoad(plan, options);
  return reportOf(traces, (performance.now() - start) / 1e3);
}

/** Sends the whole plan; a trace for each request. @throws as `runLoad` does */
export async function traceLoad(
  plan: readonly PlannedRequest[],
  options: LoadOptions,
): Promise<readonly Trace[]> {
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const start = performance.now();
  const send = (one: PlannedRequest) => sendOne(one, options, client);
  return options.arrivals.type === "closed"
    ? await closedLoop(plan, options.arrivals.clients, send)
    : await openLoop(plan, start, send);
}

async function closedLoop(
  plan: readonly PlannedRequest[],
  clients: number,
  send: (one: PlannedRequest) => Promise<Trace>,
): Promise<Trace[]> {
  const traces: Trace[] = [];
  const next = plan.values();
  await Promise.all(Array.from({ length: Math.min(clients, plan.length) }, async () => {
    for (const one of next) traces.push(await send(one));
  }));
  return traces;
}

function openLoop(
  plan: readonly PlannedRequest[],
  start: number,
  send: (one: PlannedRequest) => Promise<Trace>,
): Promise<Trace[]> {
  return Promise.all(plan.map(async (one) => {
    const wait = start + one.at * 1e3 - performance.now();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, wait)));
    return await send(one);
  }));
}

async function sendOne(
  one: PlannedRequest,
  options: LoadOptions,
  client: Deno.HttpClient,
): Promise<Trace> {
  const sent = performance.now();
  const response = await fetch(`${options.url}/v1/completions`, {
    method: "POST",
    headers: { ...headersOf(options.apiKey), ...options.headers },
    body: JSON.stringify(bodyOf(one, options)),
    client,
    signal: options.signal ?? null,
  });
  if (!response.ok || response.body === null) {
    throw new Error(`HTTP ${response.status}: ${(await response.text()).slice(0, 500)}`);
  }
  const events: number[] = [];
  let [promptTokens, outputTokens] = [0, 0];
  for await (const event of eventsOf(response.body)) {
    const { error, usage, choices } = JSON.parse(event);
    if (error) throw new Error(`The stream failed: ${event.slice(0, 500)}`);
    if (usage) [promptTokens, outputTokens] = [usage.prompt_tokens, usage.completion_tokens];
    if (choices?.length > 0) events.push(performance.now());
  }
  return { sent, events, ended: performance.now(), promptTokens, outputTokens };
}

function headersOf(apiKey: string | undefined): Record<string, string> {
  const type = { "content-type": "application/json" };
  return apiKey === undefined ? type : { ...type, authorization: `Bearer ${apiKey}` };
}

function bodyOf(one: PlannedRequest, { base, adapter, extra }: LoadOptions): unknown {
  return {
    model: one.adapter === undefined ? base : adapter(one.adapter),
    prompt: one.prompt,
    "max_tokens": one.outputTokens,
    temperature: 0,
    stream: true,
    "ignore_eos": true,
    "stream_options": { "include_usage": true },
    ...extra,
  };
}

/** The payload of each server-sent event but `[DONE]`, however the bytes are cut up. */
export async function* eventsOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const payload = line.startsWith("data: ") ? line.slice(6).trimEnd() : "[DONE]";
      if (payload !== "[DONE]") yield payload;
    }
  }
}

/** Adds the traces up; a server that sends no usage is counted by its events. */
export function reportOf(traces: readonly Trace[], seconds: number): LoadReport {
  const outputTokens = traces.reduce(
    (sum, one) => sum + (one.outputTokens || one.events.length),
    0,
  );
  const gaps = traces.flatMap(({ events }) =>
    events.slice(1).map((at, i) => at - (events[i] ?? at))
  );
  const events = traces.reduce((sum, one) => sum + one.events.length, 0);
  return {
    requests: traces.length,
    outputTokens,
    seconds: round(seconds, 2),
    outputTokensPerSecond: round(outputTokens / seconds, 1),
    requestsPerSecond: round(traces.length / seconds, 2),
    ttft: percentiles(
      traces.flatMap(({ events, sent }) => events.slice(0, 1).map((at) => at - sent)),
    ),
    interToken: percentiles(gaps),
    longestGap: round(gaps.reduce((longest, gap) => Math.max(longest, gap), 0), 1),
    endToEnd: percentiles(traces.map(({ sent, ended }) => ended - sent)),
    eventsPerRequest: round(events / traces.length, 1),
  };
}

function percentiles(values: readonly number[]): Percentiles {
  const at = (p: number) => round(percentile(values, p), 1);
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}
