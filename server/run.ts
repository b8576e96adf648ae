/**
 * One HTTP request's generations: started together, merged into one stream of deltas, cancelled
 * together. It owns their lifetime and the usage they add up to; it knows no response shape.
 */
import type {
  Generation,
  GenerationDelta,
  GenerationRequest,
  SamplingParams,
} from "../src/engine/request.ts";
import type { ServerContext } from "./context.ts";
import type { AppContext } from "./endpoint.ts";
import { shuttingDown } from "./errors.ts";
import type { Target } from "./model_name.ts";
import { engineRefusal } from "./sampling.ts";
import type { UsageBody } from "./schema/common.ts";

/** What to generate: `n` samples of each prompt. */
export interface RunPlan {
  readonly id: string;
  readonly prompts: readonly (readonly number[])[];
  /** Undefined = nothing is to be generated (`max_tokens: 0`): every sample ends at once. */
  readonly sampling: SamplingParams | undefined;
  readonly n: number;
  readonly priority: number;
}

/** Deltas of all samples; `index` counts prompts first, samples of one prompt next to each other. */
export interface Run extends AsyncIterable<GenerationDelta> {
  readonly plan: RunPlan;
  usage(): UsageBody;
  /** Cancels what still runs and lets the adapter go. Idempotent. */
  close(): void;
}

/**
 * Plans and starts the generations and awaits the first delta, so that whatever goes wrong before it
 * still has a status code. The target is let go with the run, or here where there will be none.
 * @throws {ApiError} 400 for what the engine refuses, 503 while the server goes down.
 */
export async function startRun(
  context: ServerContext,
  c: AppContext,
  target: Target,
  makePlan: () => RunPlan,
): Promise<Run> {
  const abort = new AbortController();
  const close = () => {
    abort.abort();
    target[Symbol.dispose]();
  };
  let plan: RunPlan | undefined;
  try {
    if (context.lifecycle.draining) throw shuttingDown();
    plan = makePlan();
    if (plan.sampling === undefined) return emptyRun(plan, close);
    const signal = AbortSignal.any([c.req.raw.signal, abort.signal]);
    const generations = toRequests(plan, plan.sampling, target, signal).map((request) =>
      context.engine.generate(request)
    );
    const deltas = merge(generations, plan.n);
    const first = await deltas.next();
    return {
      plan,
      usage: () => addUsage(generations),
      close: () => {
        close();
        deltas.return?.().catch(() => {});
      },
      [Symbol.asyncIterator]: () => prepend(first, deltas),
    };
  } catch (error) {
    close();
    throw engineRefusal(error, plan?.sampling) ?? error;
  }
}

function emptyRun(plan: RunPlan, close: () => void): Run {
  const promptTokens = plan.prompts.reduce((sum, ids) => sum + ids.length, 0);
  return {
    plan,
    usage: () => addUsage([{ usage: { promptTokens, completionTokens: 0, cachedTokens: 0 } }]),
    close,
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
  target: Target,
  signal: AbortSignal,
): GenerationRequest[] {
  return plan.prompts.map((prompt, index) => ({
    id: plan.prompts.length === 1 ? plan.id : `${plan.id}-${index}`,
    tenant: target.tenant,
    prompt,
    adapter: target.adapter,
    sampling,
    n: plan.n,
    priority: plan.priority,
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
  const advance = async (which: number) => ({ which, result: await iterators[which]?.next() });
  const waiting = new Map(iterators.map((_, which) => [which, advance(which)]));
  while (waiting.size > 0) {
    const { which, result } = await Promise.race(waiting.values());
    if (result === undefined || result.done) {
      waiting.delete(which);
      continue;
    }
    waiting.set(which, advance(which));
    yield { ...result.value, index: which * n + result.value.index };
  }
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
