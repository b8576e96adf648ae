/**
 * Spans as a collector gets them: a server in a process of its own, the runtime's exporter, and an
 * OTLP receiver that listens here.
 */
import { assert, assertEquals, assertExists, assertMatch } from "@std/assert";
import { ServerProcess } from "../server_process.ts";

interface Value {
  readonly stringValue?: string;
  readonly intValue?: string | number;
  readonly doubleValue?: number;
}

interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly { readonly key: string; readonly value: Value }[];
}

interface Export {
  readonly resourceSpans: readonly {
    readonly scopeSpans: readonly {
      readonly scope: { readonly name: string };
      readonly spans: readonly ReceivedSpan[];
    }[];
  }[];
}

/** A collector of traces, as OTLP over HTTP with JSON. */
function receiver() {
  const spans: ReceivedSpan[] = [];
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    async (request) => {
      if (new URL(request.url).pathname === "/v1/traces") {
        const { resourceSpans }: Export = await request.json();
        const scopes = resourceSpans.flatMap(({ scopeSpans }) => scopeSpans);
        spans.push(
          ...scopes.filter(({ scope }) => scope.name === "lembas").flatMap((s) => s.spans),
        );
      } else await request.body?.cancel();
      return Response.json({});
    },
  );
  return { spans, server, url: `http://127.0.0.1:${server.addr.port}` };
}

function attributesOf({ attributes }: ReceivedSpan): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}

/** The spans of one request to a server of its own, which is stopped so that all are sent. */
async function trace(headers: HeadersInit): Promise<{ spans: ReceivedSpan[]; log: string[] }> {
  const { spans, server, url } = receiver();
  const script = new URL("../serve_child.ts", import.meta.url);
  const process = new ServerProcess(script, {
    args: ["--port", "0", "--log-format", "json"],
    env: {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_ENDPOINT: url,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_DENO_CONSOLE: "ignore",
      NO_PROXY: "127.0.0.1",
    },
  });
  try {
    const target = /http:[^"\s]+(?=\/v1)/.exec(await process.line(/serving http/))?.[0] ?? "";
    const response = await fetch(`${target}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-request-id": "mine", ...headers },
      body: JSON.stringify({ model: "tiny", prompt: "abc", max_tokens: 3, n: 2, ignore_eos: true }),
    });
    assertEquals(response.status, 200, await response.text());
  } finally {
    process.kill("SIGTERM");
  }
  const { lines } = await process.ended();
  await server.shutdown();
  return { spans, log: [...lines] };
}

Deno.test("a request is a span below its caller's, and each sample queues, prefills and decodes below it", async () => {
  const [traceId, caller] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
  const { spans, log } = await trace({ traceparent: `00-${traceId}-${caller}-01` });
  assertEquals(new Set(spans.map((span) => span.traceId)), new Set([traceId]));
  const request = spans.find(({ name }) => name === "POST /v1/completions");
  assertExists(request);
  assertEquals([request.parentSpanId, request.kind], [caller, 2]);
  const attributes = attributesOf(request);
  assertEquals(attributes["lembas.request_id"], "mine");
  assertEquals(attributes["lembas.tenant"], "default");
  assertEquals(attributes["gen_ai.request.model"], "tiny");
  assertEquals(Number(attributes["http.response.status_code"]), 200);
  assertEquals(Number(attributes["gen_ai.usage.output_tokens"]), 6);
  const phases = spans.filter(({ parentSpanId }) => parentSpanId === request.spanId);
  assertEquals(phases.map(({ name }) => name).sort(), [
    ...["decode", "decode"],
    ...["prefill", "prefill"],
    ...["queue", "queue"],
  ]);
  checkOrder(request, phases);
  assert(!JSON.stringify(spans).includes("abc"), "a prompt is in no span");
  const line = log.find((text) => text.includes("POST /v1/completions")) ?? "{}";
  assertEquals(JSON.parse(line).trace, traceId);
});

/** One sample's phases follow each other within the request. */
function checkOrder(request: ReceivedSpan, phases: readonly ReceivedSpan[]): void {
  const slack = 5_000_000n;
  const begin = BigInt(request.startTimeUnixNano) - slack;
  const end = BigInt(request.endTimeUnixNano) + slack;
  for (const sample of [0, 1]) {
    const own = ["queue", "prefill", "decode"].map((name) =>
      phases.find((span) =>
        span.name === name && Number(attributesOf(span)["lembas.sample"]) === sample
      )
    );
    const times = own.flatMap((span) =>
      span === undefined ? [] : [BigInt(span.startTimeUnixNano), BigInt(span.endTimeUnixNano)]
    );
    assertEquals(times.length, 6, `sample ${sample} lacks a phase`);
    const all = [begin, ...times, end];
    for (const [i, time] of all.slice(1).entries()) {
      assert(time + 1000n >= (all[i] ?? 0n), `sample ${sample}: ${all.join(" ")}`);
    }
  }
}

Deno.test("without a caller's span a request begins its own trace", async () => {
  const { spans } = await trace({});
  const request = spans.find(({ name }) => name.startsWith("POST"));
  assertEquals(request?.parentSpanId, "");
  assertMatch(request?.traceId ?? "", /^[0-9a-f]{32}$/);
});
