/**
 * The way of a request into the queue: it is checked, gets a lane, makes room in the queue if need
 * be, and becomes a sequence for each of its n samples; a sequence waits once its core and its
 * grammar are loaded. Of n samples of a long prompt, the others wait for the first one's prefill,
 * to take their prefix from the cache.
 */
import { randomSeed } from "../executor/philox.ts";
import { FieldError, OverloadedError } from "../util/errors.ts";
import { cancel, fail, release } from "./admit.ts";
import { BLOCK_TOKENS } from "./kv_memory.ts";
import { type Account, EQUAL_STANDING } from "./policy/accounts.ts";
import { chooseVictims } from "./policy/queue.ts";
import { GenerationStream } from "./request/output.ts";
import type { Generation, GenerationRequest, GenerationTimes } from "./request/request.ts";
import { validateRequest } from "./request/sampling.ts";
import { type Lane, type SampleGroup, Sequence } from "./sequence.ts";
import type { EngineState } from "./state.ts";

/** Takes requests of one tenant in, all or none. @throws as `Engine.generate` does */
export function arrive(
  state: EngineState,
  requests: readonly GenerationRequest[],
): readonly Generation[] {
  const { maxContext } = state;
  const { vocabSize } = state.lanes.first.model;
  const routed = requests.map((request) => {
    validateRequest(request, { vocabSize, maxContext });
    return { request, lane: laneFor(state, request) };
  });
  const [first] = routed;
  if (first === undefined) return [];
  if (state.draining) throw refusal(state, "server", "The engine is shutting down");
  const samples = requests.reduce((sum, { n }) => sum + n, 0);
  makeRoomInQueue(state, accountOf(state, first.request), samples, first.lane);
  return routed.map(({ request, lane }) => open(state, request, lane));
}

function laneFor({ options, lanes }: EngineState, { adapter, sampling }: GenerationRequest): Lane {
  if (sampling.grammar !== undefined && options.grammars === undefined) {
    throw new FieldError(
      "response_format",
      "Cannot use response_format: this engine has no grammars",
    );
  }
  if (adapter === undefined) return lanes.forBase();
  if (options.adapters !== undefined) return lanes.forAdapter(adapter);
  throw new FieldError("model", `Cannot run adapter ${adapter.name}: this engine has no adapters`);
}

/** The account of a request's tenant, with the standing that the request brings. */
function accountOf({ ledger }: EngineState, request: GenerationRequest): Account {
  const { tenant, standing = EQUAL_STANDING, background } = request;
  const now = performance.now();
  return background
    ? ledger.background(tenant, standing, now)
    : ledger.account(tenant, standing, now);
}

// ---- room in the queue ----

/**
 * @throws {OverloadedError} where the tenant's limit, or the queue, leaves no room for the samples.
 */
function makeRoomInQueue(
  state: EngineState,
  account: Account,
  samples: number,
  lane: Lane,
): void {
  checkTenant(state, account, samples, lane);
  const { queue, maxQueue } = state;
  const waiting = waitingOf(state);
  const missing = waiting + samples - maxQueue;
  // nobody leaves for those that nobody waits for
  const victims = account.background && missing > 0
    ? undefined
    : chooseVictims(queue.lines, { account, samples, missing });
  if (victims === undefined) {
    throw refusal(state, "server", `The queue is full: ${waiting} of ${maxQueue} wait`);
  }
  const text = `The queue is full: ${maxQueue} wait, and other tenants have fewer there`;
  for (const { sequence } of victims) fail(state, sequence, refusal(state, "server", text));
}

function checkTenant(state: EngineState, account: Account, samples: number, lane: Lane): void {
  const { queued, concurrency = Infinity } = account.standing;
  if (queued === undefined) return;
  const rows = state.rows.filter((row) => row.account === account).length;
  const waiting = account.live - rows;
  // what can run at once does not wait, though it has not left the queue yet
  const startable = Math.max(0, Math.min(concurrency - rows, lane.freeSlots));
  if (waiting + samples <= queued + startable) return;
  throw refusal(
    state,
    "tenant",
    `Too many requests of '${account.tenant}' wait: ${waiting} of at most ${queued}` +
      (concurrency === Infinity ? "" : `, while ${rows} of at most ${concurrency} run`),
  );
}

/** Sequences without a row: those that load count, too. */
function waitingOf(state: EngineState): number {
  return state.live.size - state.running;
}

/** The error for a request that is refused, with when to come back; it is counted. */
function refusal(
  state: EngineState,
  scope: OverloadedError["scope"],
  message: string,
): OverloadedError {
  state.counters.rejected++;
  const seconds = state.finishRate.secondsFor(waitingOf(state), performance.now());
  return new OverloadedError(message, seconds, scope);
}

// ---- sequences ----

function open(state: EngineState, request: GenerationRequest, lane: Lane): Generation {
  const { prompt, sampling: { maxTokens = Infinity, seed }, signal } = request;
  const { texts, eosTokens } = state;
  const sequences: Sequence[] = [];
  const arrivedAt = performance.now();
  const onLeave = () => sequences.forEach((sequence) => cancel(state, sequence));
  const group: SampleGroup = {
    request,
    account: accountOf(state, request),
    stream: new GenerationStream({
      ...{ promptTokens: prompt.length, signal, onLeave },
      times: () => timesOf(arrivedAt, sequences[0]),
    }),
    sequences,
    seed: seed ?? randomSeed(),
    vocabSize: state.lanes.first.model.vocabSize,
    maxLength: Math.min(state.maxContext, prompt.length + maxTokens),
    arrivedAt,
    texts,
    eosTokens,
  };
  for (let index = 0; index < request.n; index++) {
    sequences.push(new Sequence(group, { index, arrival: state.queue.nextArrival(), lane }));
  }
  for (const sequence of sequences) state.live.add(sequence);
  group.account.live += request.n;
  state.counters.promptTokens += prompt.length;
  if (signal?.aborted) onLeave();
  else start(state, sequences);
  return group.stream;
}

function timesOf(arrived: number, sequence: Sequence | undefined): GenerationTimes {
  return {
    arrived,
    admitted: sequence?.admittedAt,
    firstToken: sequence?.firstTokenAt,
    lastToken: sequence?.lastTokenAt,
  };
}

function start(state: EngineState, sequences: readonly Sequence[]): void {
  const [leader, ...followers] = sequences;
  if (leader === undefined) return;
  const { prompt: { length }, promptLogprobs } = leader.request;
  const cached = length > 2 * BLOCK_TOKENS && state.memory.cacheLimit > 0;
  const follow = cached || promptLogprobs !== undefined;
  if (follow && followers.length > 0) {
    leader.startFollowers = () => followers.forEach((sequence) => prepare(state, sequence));
  }
  for (const sequence of follow ? [leader] : sequences) prepare(state, sequence);
}

/** Loads what a sequence needs and queues it: at once where it needs nothing. */
function prepare(state: EngineState, sequence: Sequence): void {
  const { adapter, sampling } = sequence.request;
  if (sequence.state !== "loading") return;
  if (adapter === undefined && sampling.grammar === undefined) return enqueue(state, sequence);
  load(state, sequence)
    .then(() => enqueue(state, sequence))
    .catch((error) => fail(state, sequence, error));
}

/**
 * Opens the lane and fetches core and grammar, without a turn of the event loop where all is at
 * hand.
 */
async function load({ options, lanes }: EngineState, sequence: Sequence): Promise<void> {
  const { adapter, signal, sampling, tenant } = sequence.request;
  if (adapter !== undefined) {
    // the lane first: a core that waited for its lane would keep those of open lanes out
    const opening = lanes.ready(sequence.lane);
    if (opening !== undefined) await opening;
    if (sequence.state === "finished") return;
    const acquired = options.adapters?.acquire(adapter, signal);
    sequence.lease = acquired instanceof Promise ? await acquired : acquired;
    const loaded = sequence.lease?.core.digest;
    if (loaded !== adapter.digest) {
      throw new Error(`internal: core ${loaded} came for ${adapter.name}, ${adapter.digest}`);
    }
    const prepared = sequence.lease && sequence.lane.model.prepare(sequence.lease.core);
    if (prepared !== undefined) await prepared;
  }
  if (sampling.grammar !== undefined && sequence.state === "loading") {
    sequence.matcher = await options.grammars?.matcher(sampling.grammar, tenant);
  }
}

function enqueue(state: EngineState, sequence: Sequence): void {
  if (sequence.state === "finished") return release(sequence);
  sequence.enter("waiting");
  if (sequence.request.adapter === undefined) {
    const lane = state.lanes.forBase();
    if (lane !== sequence.lane) sequence.reroute(lane);
  }
  state.queue.add(sequence);
  state.wake();
}
