/**
 * Between sequences and their callers: opens a request's sequences and stream, hands tokens out as
 * deltas, and ends sequences (done, cancelled, failed), giving back what they held. It owns the set
 * of live sequences; it runs nothing and knows no slot.
 */
import type { Tokenizer } from "../../checkpoint/checkpoint.ts";
import { type Account, EQUAL_STANDING, type Ledger } from "../accounts.ts";
import { TokenTexts } from "./detokenizer.ts";
import { GenerationStream } from "./generation.ts";
import type { Lane } from "../lane.ts";
import { type AdapterLoad, type Counters, type EngineListener, FinishRate } from "../metrics.ts";
import type { Sampled } from "../../executor/model.ts";
import { randomSeed } from "../../executor/philox.ts";
import type { FinishReason, Generation, GenerationRequest, TokenLogprob } from "./request.ts";
import type { RunnerDelegate } from "../runner.ts";
import { Sequence } from "../sequence.ts";
import type { WaitingQueue } from "../waiting.ts";

/** A request's samples and their one stream. */
interface Group {
  readonly stream: GenerationStream;
  readonly sequences: readonly Sequence[];
  /** Samples that have not finished. */
  open: number;
  /** Stops listening to the caller's signal. */
  readonly detach: () => void;
}

export interface DeliveryOptions {
  readonly queue: WaitingQueue;
  readonly ledger: Ledger;
  readonly counters: Counters;
  readonly listener: EngineListener;
  readonly tokenizer: Tokenizer;
  readonly eosTokenIds: readonly number[];
  /** Fetches what a loading sequence needs and queues it. */
  readonly prepare: (sequence: Sequence) => void;
}

export interface OpenOptions {
  readonly lane: Lane;
  readonly maxContext: number;
  /** Samples after the first wait for its prefill, to take its prefix from the cache. */
  readonly samplesFollow: boolean;
}

export class Delivery implements RunnerDelegate {
  /** How fast samples finish. */
  readonly rate = new FinishRate();
  readonly #queue: WaitingQueue;
  readonly #ledger: Ledger;
  readonly #counters: Counters;
  readonly #listener: EngineListener;
  readonly #texts: TokenTexts;
  readonly #eosTokens: ReadonlySet<number>;
  readonly #prepare: (sequence: Sequence) => void;
  readonly #live = new Map<Sequence, Group>();
  #watchers: (() => void)[] = [];

  constructor(options: DeliveryOptions) {
    this.#queue = options.queue;
    this.#ledger = options.ledger;
    this.#counters = options.counters;
    this.#listener = options.listener;
    this.#texts = new TokenTexts(options.tokenizer);
    this.#eosTokens = new Set(options.eosTokenIds);
    this.#prepare = options.prepare;
  }

  /** Number of sequences that have not finished. */
  get size(): number {
    return this.#live.size;
  }

  /** Sequences that have not finished; a copy. */
  live(): Sequence[] {
    return [...this.#live.keys()];
  }

  /** Whether some of them waits for a lane or runs there. */
  uses(lane: Lane): boolean {
    for (const sequence of this.#live.keys()) if (sequence.lane === lane) return true;
    return false;
  }

  /** Resolves when the condition holds; it is looked at whenever a sequence ends. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#watchers.push(resolve));
  }

  /** Whether some of a request's samples has been in a batch: its caller may have read from it. */
  begun(sequence: Sequence): boolean {
    const { sequences = [sequence] } = this.#live.get(sequence) ?? {};
    return sequences.some(({ admittedAt }) => admittedAt !== undefined);
  }

  /** The account of a request's tenant, with the standing that it brings. */
  accountOf({ tenant, standing = EQUAL_STANDING }: GenerationRequest): Account {
    return this.#ledger.account(tenant, standing, performance.now());
  }

  /** Begins a checked request. */
  open(request: GenerationRequest, options: OpenOptions): Generation {
    const { signal, prompt } = request;
    const sequences: Sequence[] = [];
    const cancel = () => sequences.forEach((sequence) => this.cancel(sequence));
    const stream = new GenerationStream({ promptTokens: prompt.length, onLeave: cancel });
    const detach = () => signal?.removeEventListener("abort", cancel);
    const group: Group = { stream, sequences, open: request.n, detach };
    const seed = request.sampling.seed ?? randomSeed();
    for (let index = 0; index < request.n; index++) {
      const sequence = this.#sequence({ request, index, seed }, options);
      sequences.push(sequence);
      sequence.account.live++;
      this.#live.set(sequence, group);
    }
    this.#counters.promptTokens += prompt.length;
    signal?.addEventListener("abort", cancel, { once: true });
    if (signal?.aborted) cancel();
    else this.#begin(sequences, options);
    return stream;
  }

  #sequence(
    sample: { readonly request: GenerationRequest; readonly index: number; readonly seed: number },
    { lane, maxContext }: OpenOptions,
  ): Sequence {
    const { request } = sample;
    const { maxTokens = Infinity } = request.sampling;
    return new Sequence({
      ...sample,
      account: this.accountOf(request),
      place: this.#queue.place(request.priority),
      lane,
      texts: this.#texts,
      eosTokens: this.#eosTokens,
      maxLength: Math.min(maxContext, request.prompt.length + maxTokens),
      now: performance.now(),
    });
  }

  #begin(sequences: readonly Sequence[], { samplesFollow }: OpenOptions): void {
    const [leader, ...followers] = sequences;
    if (leader === undefined) return;
    if (samplesFollow) leader.followers = followers;
    for (const sequence of samplesFollow ? [leader] : sequences) this.#prepare(sequence);
  }

  // ---- from the runner ----

  deliver(sequence: Sequence, sampled: Sampled): boolean {
    this.#observeToken(sequence);
    const { logprobs } = sequence.request.sampling;
    const { text, ending } = sequence.push(sampled.token);
    this.#live.get(sequence)?.stream.push({
      index: sequence.index,
      text,
      tokens: [sampled.token],
      logprobs: logprobs === undefined ? undefined : [logprobOf(sampled)],
      finishReason: ending?.reason,
      stopReason: ending?.stopReason,
    });
    return ending !== undefined;
  }

  prefilled(sequence: Sequence): void {
    const { followers } = sequence;
    sequence.followers = [];
    for (const follower of followers) this.#prepare(follower);
  }

  ended(sequence: Sequence): void {
    this.#retire(sequence, sequence.ending?.reason ?? "stop");
  }

  aborted(sequence: Sequence): void {
    this.#live.get(sequence)?.stream.push({
      index: sequence.index,
      text: sequence.flush(),
      tokens: [],
      logprobs: sequence.request.sampling.logprobs === undefined ? undefined : [],
      finishReason: "abort",
      stopReason: undefined,
    });
    this.#retire(sequence, "abort");
  }

  /** The request fails as a whole: its other samples are cancelled. */
  failed(sequence: Sequence, error: unknown): void {
    if (sequence.state === "finished") return;
    if (sequence.state === "waiting" && this.#queue.has(sequence)) this.#queue.remove(sequence);
    const group = this.#live.get(sequence);
    group?.stream.fail(error);
    this.#retire(sequence, "error");
    for (const other of group?.sequences ?? []) this.cancel(other);
  }

  // ---- ends ----

  /** At once where it is in no batch, at the next boundary between runs where it is. */
  cancel(sequence: Sequence): void {
    if (sequence.state === "finished") return;
    sequence.cancelled = true;
    if (sequence.state === "prefill" || sequence.state === "running") return;
    if (sequence.state === "waiting") this.#queue.remove(sequence);
    this.aborted(sequence);
  }

  #retire(sequence: Sequence, reason: FinishReason): void {
    sequence.enter("finished");
    release(sequence);
    this.#observeEnd(sequence, reason);
    const group = this.#live.get(sequence);
    this.#live.delete(sequence);
    this.prefilled(sequence);
    if (group !== undefined && --group.open === 0) {
      group.detach();
      group.stream.end();
    }
    const watchers = this.#watchers;
    this.#watchers = [];
    for (const look of watchers) look();
  }

  // ---- observations ----

  #observeToken(sequence: Sequence): void {
    const now = performance.now();
    const { lastTokenAt, arrivedAt, cachedTokens = 0 } = sequence;
    if (lastTokenAt === undefined) {
      sequence.firstTokenAt = now;
      this.#listener.firstToken?.((now - arrivedAt) / 1000);
      this.#live.get(sequence)?.stream.cached(cachedTokens);
      if (sequence.index === 0) this.#counters.cachedTokens += cachedTokens;
    } else this.#listener.interToken?.((now - lastTokenAt) / 1000);
    sequence.lastTokenAt = now;
    sequence.account.chargeOutput();
    this.#counters.generationTokens++;
  }

  #observeEnd(sequence: Sequence, reason: FinishReason): void {
    const now = performance.now();
    const { request, arrivedAt, admittedAt, firstTokenAt, lastTokenAt } = sequence;
    const sinceArrival = (at: number | undefined) =>
      at === undefined ? undefined : (at - arrivedAt) / 1000;
    sequence.account.live--;
    sequence.account.seenAt = now;
    this.#counters.finished[reason]++;
    this.rate.record(now);
    this.#listener.finished?.({
      requestId: request.id,
      index: sequence.index,
      tenant: request.tenant,
      adapter: request.adapter?.name,
      reason,
      promptTokens: request.prompt.length,
      cachedTokens: sequence.cachedTokens ?? 0,
      generationTokens: sequence.outputs,
      endToEnd: (now - arrivedAt) / 1000,
      queued: sinceArrival(admittedAt),
      firstToken: sinceArrival(firstTokenAt),
      lastToken: sinceArrival(lastTokenAt),
    });
  }

  /** Running and waiting (or loading) samples by adapter name. */
  adapterLoads(): ReadonlyMap<string, AdapterLoad> {
    const loads = new Map<string, AdapterLoad>();
    for (const { request, state } of this.#live.keys()) {
      if (request.adapter === undefined) continue;
      const { running, waiting } = loads.get(request.adapter.name) ?? { running: 0, waiting: 0 };
      const runs = state === "prefill" || state === "running" ? 1 : 0;
      loads.set(request.adapter.name, { running: running + runs, waiting: waiting + 1 - runs });
    }
    return loads;
  }
}

/** Gives back a sequence's core and grammar; harmless where it holds none. */
export function release(sequence: Sequence): void {
  sequence.lease?.release();
  sequence.lease = undefined;
  sequence.matcher?.dispose();
  sequence.matcher = undefined;
}

function logprobOf({ token, logprob = NaN, top = [] }: Sampled): TokenLogprob {
  return { token, logprob, top };
}
