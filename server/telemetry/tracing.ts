/**
 * OpenTelemetry spans: one for each request, and below it what each of its samples waited for and
 * did (queue, prefill, decode). Names and attributes follow the conventions for HTTP and
 * generative AI. The runtime exports them (`OTEL_DENO=true`); without it nothing is recorded.
 * Neither prompts nor keys are in them.
 */
import {
  type Attributes,
  type Context,
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import type { EngineListener, FinishedObservation } from "../../src/engine/metrics.ts";
import type { GenerationRequest } from "../../src/engine/request/request.ts";

/** What is known at a request's end; what is undefined is left out. */
export interface RequestEnd {
  readonly method: string;
  /** As routes write it, `/v1/models/:model`; undefined = none matched. */
  readonly route: string | undefined;
  readonly path: string;
  readonly status: number;
  readonly requestId: string;
  readonly tenant: string | undefined;
  readonly model: string | undefined;
  readonly promptTokens: number | undefined;
  readonly completionTokens: number | undefined;
}

/** One request's span. */
export interface RequestTrace {
  /** Hex, for the log; undefined where nothing is recorded. */
  readonly traceId: string | undefined;
  /** To be told of each generation before it starts. */
  adopt(generation: Pick<GenerationRequest, "id" | "n">): void;
  /** Ends the span, and forgets generations that were refused. */
  end(seen: RequestEnd): void;
}

interface Adopted {
  readonly parent: Context;
  /** Samples that have not ended. */
  open: number;
}

/** Tracing where the runtime records spans; undefined where nobody would see one. */
export function openTracing(): Tracing | undefined {
  const tracer = trace.getTracer("lembas");
  // a span that does not end is not exported
  return tracer.startSpan("probe").isRecording() ? new Tracing(tracer) : undefined;
}

export class Tracing {
  readonly #tracer: Tracer;
  readonly #generations = new Map<string, Adopted>();

  constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  /** To be given to the engine. */
  get listener(): EngineListener {
    return { finished: (seen) => this.#finished(seen) };
  }

  /** Begins a request's span, below the one that its `traceparent` header names. */
  begin(headers: Headers): RequestTrace {
    const parent = propagation.extract(context.active(), Object.fromEntries(headers));
    const span = this.#tracer.startSpan("request", { kind: SpanKind.SERVER }, parent);
    if (!span.isRecording()) return SILENT;
    const own = trace.setSpan(parent, span);
    const ids: string[] = [];
    return {
      traceId: span.spanContext().traceId,
      adopt: ({ id, n }) => {
        ids.push(id);
        this.#generations.set(id, { parent: own, open: n });
      },
      end: (seen) => {
        if (seen.status >= 400) { for (const id of ids) this.#generations.delete(id); }
        endRequest(span, seen);
      },
    };
  }

  #finished(seen: FinishedObservation): void {
    const adopted = this.#generations.get(seen.requestId);
    if (adopted === undefined) return;
    if (--adopted.open === 0) this.#generations.delete(seen.requestId);
    const end = performance.timeOrigin + performance.now();
    for (const { name, from, to, attributes } of phasesOf(seen)) {
      const startTime = end - 1000 * (seen.endToEnd - from);
      const options = { startTime, attributes: { "lembas.sample": seen.index, ...attributes } };
      this.#tracer.startSpan(name, options, adopted.parent).end(end - 1000 * (seen.endToEnd - to));
    }
  }
}

const SILENT: RequestTrace = { traceId: undefined, adopt: () => {}, end: () => {} };

/** Seconds since the sample's arrival. */
interface Phase {
  readonly name: "queue" | "prefill" | "decode";
  readonly from: number;
  readonly to: number;
  readonly attributes: Attributes;
}

/** Attributes of a sample that has ended; one that never got a slot has only waited. */
function phasesOf(seen: FinishedObservation): Phase[] {
  const { queued, firstToken, endToEnd } = seen;
  const phases: Phase[] = [{ name: "queue", from: 0, to: queued ?? endToEnd, attributes: {} }];
  if (queued === undefined) return phases;
  phases.push({
    name: "prefill",
    from: queued,
    to: firstToken ?? endToEnd,
    attributes: {
      "gen_ai.usage.input_tokens": seen.promptTokens,
      "gen_ai.usage.cache_read.input_tokens": seen.cachedTokens,
    },
  });
  if (firstToken === undefined) return phases;
  phases.push({
    name: "decode",
    from: firstToken,
    to: endToEnd,
    attributes: {
      "gen_ai.usage.output_tokens": seen.generationTokens,
      "gen_ai.response.finish_reasons": [seen.reason],
    },
  });
  return phases;
}

function endRequest(span: Span, seen: RequestEnd): void {
  span.updateName(seen.route === undefined ? seen.method : `${seen.method} ${seen.route}`);
  span.setAttributes(defined({
    "http.request.method": seen.method,
    "http.route": seen.route,
    "url.path": seen.path,
    "http.response.status_code": seen.status,
    "lembas.request_id": seen.requestId,
    "lembas.tenant": seen.tenant,
    "gen_ai.request.model": seen.model,
    "gen_ai.usage.input_tokens": seen.promptTokens,
    "gen_ai.usage.output_tokens": seen.completionTokens,
  }));
  if (seen.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}

function defined(attributes: Readonly<Record<string, string | number | undefined>>): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}
