/**
 * Prometheus metrics under vLLM's names, in a registry of their own (not the process's global
 * one). The engine's gauges are read at each scrape. The label with an adapter's name has a bound,
 * and its series are written anew at each scrape.
 */
import { Counter, Gauge, Registry } from "prom-client";
import { BLOCK_TOKENS } from "../../src/engine/kv_memory.ts";
import type { EngineListener, EngineStats } from "../../src/engine/metrics.ts";
import { DEFAULT_TENANT, nameFor, withoutVersion } from "../../adapters/catalog/name.ts";
import { BATCH_STATUSES, JOB_STATUSES } from "../../adapters/store/store.ts";
import { requestMetrics } from "./request_metrics.ts";
import { type TenantMetrics, tenantMetrics } from "./tenant_metrics.ts";

/** Most names of adapters in one scrape, of running and of waiting ones each. */
const MAX_LISTED_ADAPTERS = 64;

export interface MetricsOptions {
  /** The base model's name, a label of every metric. */
  readonly model: string;
  /** What `max_lora` says: how many adapters one batch may hold, its rows; default 0. */
  readonly maxAdapters?: number;
  /** How many blocks of tokens the KV memory holds; default: not told. */
  readonly kvBlocks?: number;
  /** Most tokens of a sequence. */
  readonly maxContext?: number;
  /** Read once a scrape. */
  readonly stats: () => EngineStats;
}

/** What the engine's metrics read: one snapshot for each scrape, so that they agree. */
interface Snapshot {
  readonly stats: () => EngineStats;
  readonly maxAdapters: number | undefined;
  readonly kvBlocks: number | undefined;
  readonly maxContext: number | undefined;
}

/** What fine-tuning tells of itself. */
export interface TrainingMetrics {
  /** Counts tokens trained on. */
  readonly tokens: (count: number, tenant: string) => void;
  /** Sets what counts the jobs by status at each scrape. */
  readonly attach: (counts: () => Promise<ReadonlyMap<string, number>>) => void;
}

/** What batches tell of themselves. */
export interface BatchMetrics {
  /** Counts a line that has run. */
  readonly line: (failed: boolean) => void;
  /** Sets what counts the batches by status at each scrape. */
  readonly attach: (counts: () => Promise<ReadonlyMap<string, number>>) => void;
}

export interface Metrics {
  readonly training: TrainingMetrics;
  readonly batches: BatchMetrics;
  /** To be given to the engine. */
  readonly listener: EngineListener;
  /** Sets the engine to read; its listener is needed before there is one. */
  attach(options: MetricsOptions): void;
  /** Counts a response by status class, and for its tenant, where it has one. */
  response(status: number, tenant?: string): void;
  /** The text format and its media type. */
  expose(): Promise<{ readonly contentType: string; readonly text: string }>;
}

/** An empty registry with a listener. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const responses = new Counter({
    name: "lembas_http_responses_total",
    help: "HTTP responses by status class.",
    labelNames: ["status"],
    registers: [registry],
  });
  const tenants = tenantMetrics(registry);
  const listener = requestMetrics(registry, tenants);
  let beginScrape = () => {};
  return {
    listener,
    training: trainingMetrics(registry, tenants),
    batches: batchMetrics(registry),
    attach: ({ model, stats, maxAdapters, kvBlocks, maxContext }) => {
      registry.setDefaultLabels({ model_name: model });
      let seen = stats();
      beginScrape = () => seen = stats();
      registerEngine(registry, { stats: () => seen, maxAdapters, kvBlocks, maxContext });
      registerProcess(registry);
    },
    response: (status, tenant) => {
      responses.inc({ status: `${Math.floor(status / 100)}xx` });
      if (tenant !== undefined) tenants.response(tenant, status);
    },
    expose: async () => {
      beginScrape();
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
}

function trainingMetrics(registry: Registry, tenants: TenantMetrics): TrainingMetrics {
  const tokens = new Counter({
    name: "lembas_training_tokens_total",
    help: "Tokens trained on.",
    registers: [registry],
  });
  return {
    tokens: (count, tenant) => {
      tokens.inc(count);
      tenants.trained(tenant, count);
    },
    attach: (counts) =>
      byStatus(registry, counts, {
        name: "lembas_training_jobs",
        help: "Fine-tuning jobs by status.",
        statuses: JOB_STATUSES,
      }),
  };
}

function batchMetrics(registry: Registry): BatchMetrics {
  const lines = new Counter({
    name: "lembas_batch_requests_total",
    help: "Lines of batches that have run, by whether they were answered.",
    labelNames: ["outcome"],
    registers: [registry],
  });
  return {
    line: (failed) => lines.inc({ outcome: failed ? "failed" : "completed" }),
    attach: (counts) =>
      byStatus(registry, counts, {
        name: "lembas_batches",
        help: "Batches by status.",
        statuses: BATCH_STATUSES,
      }),
  };
}

/** A gauge that is counted anew at each scrape. */
function byStatus(
  registry: Registry,
  counts: () => Promise<ReadonlyMap<string, number>>,
  { name, help, statuses }: {
    readonly name: string;
    readonly help: string;
    readonly statuses: readonly string[];
  },
): void {
  new Gauge({
    name,
    help,
    labelNames: ["status"],
    registers: [registry],
    async collect() {
      this.reset();
      const found = await counts();
      for (const status of statuses) this.set({ status }, found.get(status) ?? 0);
    },
  });
}

type Reading = readonly [name: string, help: string, read: (stats: EngineStats) => number];

const GAUGES: readonly Reading[] = [
  ["vllm:num_requests_running", "Sequences that hold a slot.", (s) => s.running],
  ["vllm:num_requests_waiting", "Sequences in the queue.", (s) => s.waiting + s.loading],
  ["vllm:kv_cache_usage_perc", "Share of the KV memory in use, 0 to 1.", (s) => s.kvUsage],
  ["lembas_kv_cache_bytes", "Bytes of keys and values in use.", (s) => s.kvBytes],
  [
    "lembas_kv_spare_bytes",
    "Bytes of pages that stay for the next sequences' keys and values.",
    (s) => s.kvBytesSpare,
  ],
  ["lembas_prefix_cache_bytes", "Bytes of cached prefixes.", (s) => s.kvBytesCached],
  ["lembas_lanes_loaded", "Factor sets with a lane in memory.", (s) => s.lanes.loaded],
  ["lembas_lane_bytes", "Bytes of lanes, keys and values aside.", (s) => s.lanes.bytes],
];

const COUNTERS: readonly Reading[] = [
  ["vllm:prompt_tokens_total", "Prompt tokens taken in.", (s) => s.promptTokens],
  ["vllm:prompt_tokens_cached_total", "Prompt tokens not computed again.", (s) => s.cachedTokens],
  ["vllm:generation_tokens_total", "Tokens generated.", (s) => s.generationTokens],
  ["vllm:num_preemptions_total", "Sequences put back for lack of memory.", (s) => s.preemptions],
  [
    "vllm:prefix_cache_queries_total",
    "Tokens looked up in the prefix cache.",
    (s) => s.prefixQueriedTokens,
  ],
  ["vllm:prefix_cache_hits_total", "Tokens found in the prefix cache.", (s) => s.prefixHitTokens],
  [
    "vllm:spec_decode_num_drafts_total",
    "Runs over tokens that grammars foresaw (--jump-forward).",
    (s) => s.jumpRuns,
  ],
  [
    "vllm:spec_decode_num_draft_tokens_total",
    "Tokens that these runs foresaw.",
    (s) => s.foreseenTokens,
  ],
  [
    "vllm:spec_decode_num_accepted_tokens_total",
    "Foreseen tokens that were then drawn.",
    (s) => s.jumpedTokens,
  ],
  ["lembas_lane_loads_total", "Lanes opened when asked for.", (s) => s.lanes.loads],
  ["lembas_lane_evictions_total", "Lanes closed to make room.", (s) => s.lanes.evictions],
  ["lembas_requests_rejected_total", "Samples refused by a full queue.", (s) => s.rejected],
];

/** What a waiting sequence waits for, by vLLM's names: room, or its adapter and grammar. */
function registerWaiting(registry: Registry, options: Snapshot): void {
  new Gauge({
    name: "vllm:num_requests_waiting_by_reason",
    help: "Sequences that wait for room (capacity), or for an adapter or a grammar (deferred).",
    labelNames: ["reason"],
    registers: [registry],
    collect() {
      const { waiting, loading } = options.stats();
      this.set({ reason: "capacity" }, waiting);
      this.set({ reason: "deferred" }, loading);
    },
  });
}

function registerRejections(registry: Registry, options: Snapshot): void {
  new Counter({
    name: "vllm:admission_rejections_total",
    help: "Samples refused by a full queue.",
    labelNames: ["reason"],
    registers: [registry],
    collect() {
      this.reset();
      this.inc({ reason: "max_num_queued_reqs" }, options.stats().rejected);
    },
  });
}

/** vLLM's counters and gauges: the engine's own numbers, read at each scrape. */
function registerEngine(registry: Registry, options: Snapshot): void {
  for (const [name, help, read] of GAUGES) {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read(options.stats()));
      },
    });
  }
  for (const [name, help, read] of COUNTERS) {
    new Counter({
      name,
      help,
      registers: [registry],
      collect() {
        this.reset();
        this.inc(read(options.stats()));
      },
    });
  }
  registerWaiting(registry, options);
  registerRejections(registry, options);
  registerFinished(registry, options);
  registerCache(registry, options);
  registerAdapters(registry, options);
}

/** For endpoint pickers that follow prefixes: the Inference Extension's model server protocol. */
function registerCache(registry: Registry, { kvBlocks, maxContext }: Snapshot): void {
  if (kvBlocks === undefined || maxContext === undefined) return;
  const tokens = kvBlocks * BLOCK_TOKENS;
  new Gauge({
    name: "vllm:cache_config_info",
    help: "The KV memory in blocks of tokens; the value is 1.",
    labelNames: [
      ...["block_size", "num_gpu_blocks"],
      ...["kv_cache_size_tokens", "kv_cache_max_concurrency"],
    ],
    registers: [registry],
  }).set({
    block_size: String(BLOCK_TOKENS),
    num_gpu_blocks: String(kvBlocks),
    kv_cache_size_tokens: String(tokens),
    // sequences of full length that it holds
    kv_cache_max_concurrency: (tokens / maxContext).toFixed(2),
  }, 1);
}

function registerFinished(registry: Registry, options: Snapshot): void {
  new Counter({
    name: "vllm:request_success_total",
    help: "Samples that ended, by reason.",
    labelNames: ["finished_reason"],
    registers: [registry],
    collect() {
      this.reset();
      for (const [reason, count] of Object.entries(options.stats().finished)) {
        this.inc({ finished_reason: reason }, count);
      }
    },
  });
}

function registerAdapters(registry: Registry, options: Snapshot): void {
  new Gauge({
    name: "vllm:lora_requests_info",
    help: "Adapters of running and waiting requests; the value is the time of the scrape.",
    labelNames: ["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
    registers: [registry],
    collect() {
      this.reset();
      const names = { running: [] as string[], waiting: [] as string[] };
      for (const [name, load] of options.stats().adapters) {
        const given = nameFor(DEFAULT_TENANT, withoutVersion(name));
        if (load.running > 0) names.running.push(given);
        if (load.waiting > 0) names.waiting.push(given);
      }
      const told = (list: readonly string[]) =>
        [...new Set(list)].slice(0, MAX_LISTED_ADAPTERS).join(",");
      this.set({
        max_lora: String(options.maxAdapters ?? 0),
        running_lora_adapters: told(names.running),
        waiting_lora_adapters: told(names.waiting),
      }, Date.now() / 1000);
    },
  });
}

function registerProcess(registry: Registry): void {
  const start = (Date.now() - performance.now()) / 1000;
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  gauge("process_start_time_seconds", "Unix time of the start.", () => start);
  gauge("process_resident_memory_bytes", "Resident memory.", () => Deno.memoryUsage().rss);
  gauge(
    "nodejs_heap_size_used_bytes",
    "JavaScript heap in use.",
    () => Deno.memoryUsage().heapUsed,
  );
}

/** Each observation goes to every listener, in order. */
export function joinListeners(...listeners: readonly EngineListener[]): EngineListener {
  return {
    firstToken: (seconds) => listeners.forEach((one) => one.firstToken?.(seconds)),
    interToken: (seconds) => listeners.forEach((one) => one.interToken?.(seconds)),
    finished: (seen) => listeners.forEach((one) => one.finished?.(seen)),
    step: (seen) => listeners.forEach((one) => one.step?.(seen)),
    idle: () => listeners.forEach((one) => one.idle?.()),
  };
}
