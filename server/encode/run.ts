/**
 * One HTTP request's texts through an encoder: limits before, vectors, and usage after. Long texts are
 * cut, as sentence-transformers cuts them, unless the request would rather have them refused.
 */
import type { Framed } from "../../src/checkpoint/encoder/frame.ts";
import { isFieldError } from "../../src/util/errors.ts";
import { nextTurn } from "../../src/util/time.ts";
import { type AppContext, askerOf, type ServedEncoder, type ServerContext } from "../context.ts";
import { invalid, shuttingDown } from "../errors.ts";
import { completionId } from "../generate/answer.ts";
import { isBase, type Target } from "../generate/model_name.ts";
import type { MeteredRequest, Use } from "../usage/metering.ts";

export interface Encoded {
  /** What pooling made of each text. */
  readonly vectors: readonly Float32Array[];
  readonly tokens: number;
}

/**
 * @param make frames the texts, once the tenant's requests are counted
 * @throws {ApiError} for the tenant's limits, a full queue, or a core that does not fit
 */
export async function encode(
  context: ServerContext,
  c: AppContext,
  encoder: ServedEncoder,
  target: Target,
  model: string,
  make: () => Promise<readonly Framed[]>,
): Promise<Encoded> {
  const { principal, requestId, signal, notes, line: background } = askerOf(c);
  using _held = target;
  let metered: MeteredRequest | undefined;
  try {
    if (context.lifecycle.draining) throw shuttingDown();
    metered = await context.metering?.begin(principal, requestId, { background });
    const texts = await make();
    const tokens = texts.reduce((sum, { ids }) => sum + ids.length, 0);
    metered?.reserve(tokens);
    const { core: adapter, tenant } = target;
    const standing = metered?.standing;
    const request = { id: requestId, tenant, standing, adapter, texts, background, signal };
    const vectors = await encoder.engine.embed(request);
    const named = adapter === undefined || isBase(context.model, model)
      ? context.model.id
      : adapter.model;
    await metered?.complete(useOf(named, tokens));
    notes.promptTokens = tokens;
    return { vectors, tokens };
  } catch (error) {
    metered?.abandon(undefined);
    throw isFieldError(error) ? invalid(error.field, error.message) : error;
  } finally {
    notes.headers = metered?.headers();
  }
}

function useOf(model: string, tokens: number): Use {
  return {
    id: completionId("embd-"),
    kind: "embedding",
    model,
    usage: {
      prompt_tokens: tokens,
      completion_tokens: 0,
      total_tokens: tokens,
      prompt_tokens_details: { cached_tokens: 0 },
    },
  };
}

/** Milliseconds of work after which the event loop gets a turn. */
const TURN_MS = 20;

/** Maps many texts without holding the event loop up. */
export async function inTurns<T, U>(
  all: readonly T[],
  map: (one: T, index: number) => U,
): Promise<U[]> {
  const made: U[] = [];
  let since = performance.now();
  for (const [index, one] of all.entries()) {
    made.push(map(one, index));
    if (performance.now() - since < TURN_MS) continue;
    await nextTurn();
    since = performance.now();
  }
  return made;
}
