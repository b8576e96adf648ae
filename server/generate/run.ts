/**
 * One HTTP request's generations: started together, merged into one stream of deltas, cancelled
 * together, and counted together.
 */
import type {
  Generation,
  GenerationDelta,
  GenerationRequest,
  GenerationTimes,
  SamplingParams,
  TokenLogprob,
} from "../../src/engine/request/request.ts";
import { type FieldError, type FieldRangeError, isFieldError } from "../../src/util/errors.ts";
import type { ReasoningOptions } from "../../src/calls/reasoning.ts";
import type { Asker, ServerContext } from "../context.ts";
import { type ApiError, invalid, shuttingDown } from "../errors.ts";
import { isBase, type Target } from "./model_name.ts";
import type { UsageBody } from "../http/schema/common.ts";
import type { RequestTrace } from "../telemetry/tracing.ts";
import type { MeteredRequest, Use } from "../usage/metering.ts";

/** A delta of the engine's, without the reasoning that its model wrote. */
export interface RunDelta extends GenerationDelta {
  /** Undefined = the model is not one that reasons. */
  readonly reasoning?: string;
}

/** How the texts of a run begin: with reasoning, by these marks. */
export interface Reasoning extends ReasoningOptions {
  /** Whether the prompt has the first mark. */
  readonly begun: boolean;
  /** Whether the request wants to see it. */
  readonly shown: boolean;
  /** Whether a mark is a special token, which the text has to show. */
  readonly special: boolean;
}

/** What to generate: `n` samples of each prompt. */
export interface RunPlan {
  readonly id: string;
  readonly kind: "chat" | "completion";
  /** As the request names it. */
  readonly model: string;
  readonly prompts: readonly (readonly number[])[];
  /** Undefined = nothing is to be generated (`max_tokens: 0`): every sample ends at once. */
  readonly sampling: SamplingParams | undefined;
  readonly n: number;
  readonly priority: number;
  /** How many alternatives to report of each prompt token; undefined = nothing of the prompts. */
  readonly promptLogprobs?: number | undefined;
  /** Undefined = the texts have no reasoning. */
  readonly reasoning?: Reasoning | undefined;
}

/** Deltas of all samples; `index` counts prompts first, samples of one prompt next to each other. */
export interface Run extends AsyncIterable<RunDelta> {
  readonly plan: RunPlan;
  usage(): UsageBody;
  /**
   * Of each token of a prompt but its first, where they were asked for; known with the first delta of
   * its samples.
   */
  promptLogprobs(prompt: number): readonly TokenLogprob[] | undefined;
  /** Of the only sample; undefined where there are several, or none is generated. */
  times(): GenerationTimes | undefined;
  /** Writes usage down. Await it before the client learns that the last sample has ended. */
  complete(): Promise<void>;
  /** Cancels what still runs and lets the adapter go. Idempotent. */
  close(): void;
}

/**
 * Plans and starts the generations and waits for the first delta, so that whatever fails before
 * it still gets a status code. The target is disposed with the run, or here if there will be
 * none.
 * @throws {ApiError} 400 for what the engine refuses, 429 for the tenant's limits, 503 while the
 *   server goes down
 */
export async function startRun(
  context: ServerContext,
  asker: Asker,
  target: Target,
  makePlan: (signal: AbortSignal) => Promise<RunPlan>,
): Promise<Run> {
  const abort = new AbortController();
  const { principal, requestId, trace, line: background } = asker;
  const signal = AbortSignal.any([asker.signal, abort.signal]);
  let metered: MeteredRequest | undefined;
  let plan: RunPlan | undefined;
  const close = () => {
    abort.abort();
    target[Symbol.dispose]();
  };
  try {
    if (context.lifecycle.draining) throw shuttingDown();
    metered = await context.metering?.begin(principal, requestId, { background });
    plan = await makePlan(signal);
    metered?.reserve(tokensAsked(plan));
    const admitted = () => {
      asker.notes.headers = metered?.headers();
      asker.admitted?.();
    };
    const parts = { target, signal, metered, trace, background, admitted, close };
    return await begin(context, plan, parts);
  } catch (error) {
    metered?.abandon(undefined);
    close();
    throw isFieldError(error) ? refusalOf(error) : error;
  } finally {
    asker.notes.headers = metered?.headers();
  }
}

/** A refusal of the field `model` is about its core, which the engine cannot run. */
function refusalOf({ field, message }: FieldError | FieldRangeError): ApiError {
  return invalid(field, message, field === "model" ? "invalid_adapter" : undefined);
}

interface RunParts {
  readonly target: Target;
  readonly signal: AbortSignal;
  readonly metered: MeteredRequest | undefined;
  readonly trace: RequestTrace | undefined;
  /** Whether nobody waits for it: a batch's line. */
  readonly background: boolean;
  readonly admitted: () => void;
  /** Cancels what runs and lets the target go. */
  readonly close: () => void;
}

/** Resolves with the first delta. */
async function begin(context: ServerContext, plan: RunPlan, parts: RunParts): Promise<Run> {
  const { target, metered, close } = parts;
  const meter = { metered, model: modelOf(context, plan, target) };
  if (plan.sampling === undefined) return emptyRun(plan, meter, close);
  const requests = toRequests(plan, plan.sampling, parts);
  for (const request of requests) parts.trace?.adopt(request);
  const generations = context.engine.generateAll(requests);
  parts.admitted();
  const deltas = merge(generations, plan.n);
  const first = await deltas.next();
  const usage = () => addUsage(generations);
  return {
    ...meteredRun(plan, meter, usage),
    promptLogprobs: (prompt) => generations[prompt]?.promptLogprobs,
    times: () => requests.length * plan.n === 1 ? generations[0]?.times : undefined,
    close: () => {
      metered?.abandon(useOf(plan, meter, usage));
      close();
      deltas.return?.().catch(() => {});
    },
    [Symbol.asyncIterator]: () => prepend(first, deltas),
  };
}

/** How a run is metered. */
interface Meter {
  readonly metered: MeteredRequest | undefined;
  readonly model: string;
}

function meteredRun(
  plan: RunPlan,
  meter: Meter,
  usage: () => UsageBody,
): Pick<Run, "plan" | "usage" | "complete"> {
  return {
    plan,
    usage,
    complete: async () => await meter.metered?.complete(useOf(plan, meter, usage)),
  };
}

function useOf({ id, kind }: RunPlan, { model }: Meter, usage: () => UsageBody): Use {
  return { id, kind, model, usage: usage() };
}

/** The name that usage is counted under: versions of an adapter together, cores inside requests as
 * the base. */
function modelOf({ model }: ServerContext, plan: RunPlan, { core }: Target): string {
  return core === undefined || isBase(model, plan.model) ? model.id : core.model;
}

/** Tokens of the prompts and of `max_tokens`; without `max_tokens` those of the prompts alone. */
function tokensAsked({ prompts, sampling, n }: RunPlan): number {
  const prompt = prompts.reduce((sum, ids) => sum + ids.length, 0);
  return prompt + prompts.length * n * (sampling?.maxTokens ?? 0);
}

function emptyRun(plan: RunPlan, meter: Meter, close: () => void): Run {
  const promptTokens = plan.prompts.reduce((sum, ids) => sum + ids.length, 0);
  const usage = () => addUsage([{ usage: { promptTokens, completionTokens: 0, cachedTokens: 0 } }]);
  return {
    ...meteredRun(plan, meter, usage),
    promptLogprobs: () => undefined,
    times: () => undefined,
    close: () => {
      meter.metered?.abandon(undefined);
      close();
    },
    async *[Symbol.asyncIterator]() {
      for (let index = 0; index < plan.prompts.length * plan.n; index++) {
        yield await Promise.resolve(emptySample(index));
      }
    },
  };
}

function emptySample(index: number): GenerationDelta {
  return {
    index,
    text: "",
    tokens: [],
    logprobs: undefined,
    finishReason: "length",
    stopReason: undefined,
  };
}

function toRequests(
  plan: RunPlan,
  sampling: SamplingParams,
  { target, signal, metered, background }: RunParts,
): GenerationRequest[] {
  return plan.prompts.map((prompt, index) => ({
    id: plan.prompts.length === 1 ? plan.id : `${plan.id}-${index}`,
    tenant: target.tenant,
    standing: metered?.standing,
    prompt,
    adapter: target.core,
    sampling,
    n: plan.n,
    promptLogprobs: plan.promptLogprobs,
    priority: plan.priority,
    background,
    signal,
  }));
}

function prepend<T>(first: IteratorResult<T>, rest: AsyncIterator<T>): AsyncIterator<T> {
  let pending: IteratorResult<T> | undefined = first;
  return {
    next: () => {
      if (pending === undefined) return rest.next();
      const result = pending;
      pending = undefined;
      return Promise.resolve(result);
    },
    return: () => rest.return?.() ?? Promise.resolve({ done: true, value: undefined }),
  };
}

/** One generation is passed through; several are interleaved as their deltas come. */
function merge(generations: readonly Generation[], n: number): AsyncIterator<GenerationDelta> {
  const [only] = generations;
  if (generations.length === 1 && only !== undefined) return only[Symbol.asyncIterator]();
  return interleave(generations, n);
}

async function* interleave(
  generations: readonly Generation[],
  n: number,
): AsyncGenerator<GenerationDelta> {
  const iterators = generations.map((generation) => generation[Symbol.asyncIterator]());
  const waiting = new Map(iterators.map((from, which) => [which, advance(from, which)]));
  try {
    while (waiting.size > 0) {
      const { which, step } = await Promise.race(waiting.values());
      const { done, value } = step();
      const from = iterators[which];
      if (done || from === undefined) {
        waiting.delete(which);
        continue;
      }
      waiting.set(which, advance(from, which));
      yield { ...value, index: which * n + value.index };
    }
  } finally {
    for (const from of iterators) from.return?.().catch(() => {});
  }
}

/** The next step of one generation, done or failed. */
interface Advance {
  readonly which: number;
  /** @throws what the step did */
  readonly step: () => IteratorResult<GenerationDelta>;
}

/**
 * Never rejects: it may wait long for a slow client, and until then nobody would handle the
 * rejection.
 */
function advance(from: AsyncIterator<GenerationDelta>, which: number): Promise<Advance> {
  return from.next().then(
    (result) => ({ which, step: () => result }),
    (error) => ({
      which,
      step: () => {
        throw error;
      },
    }),
  );
}

function addUsage(generations: readonly Pick<Generation, "usage">[]): UsageBody {
  let prompt = 0;
  let completion = 0;
  let cached = 0;
  for (const { usage } of generations) {
    prompt += usage.promptTokens;
    completion += usage.completionTokens;
    cached += usage.cachedTokens;
  }
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
  };
}
