/**
 * The load client against a real socket: a small server of this file's own, whose answers are known,
 * stands where an OpenAI-compatible server would.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { eventsOf, type LoadOptions, reportOf, runLoad } from "../../bench/load.ts";
import { planWorkload, type WorkloadOptions } from "../../bench/workload.ts";

const WORK: WorkloadOptions = {
  seed: 3,
  requests: 12,
  popularity: { type: "base" },
  prompt: { type: "fixed", tokens: 5 },
  output: { type: "fixed", tokens: 7 },
  arrivals: { type: "closed", clients: 4 },
  tokens: [10, 99],
};

interface Seen {
  readonly bodies: Record<string, unknown>[];
  most: number;
}

/** Answers each request with as many events as tokens are asked for, then the usage. */
function answer(seen: Seen): (request: Request) => Promise<Response> {
  let running = 0;
  return async (request) => {
    seen.most = Math.max(seen.most, ++running);
    const body = await request.json();
    seen.bodies.push(body);
    const tokens = Array.from(
      { length: body.max_tokens },
      (_, i) => ({ choices: [{ text: `${i}é` }] }),
    );
    const usage = {
      choices: [],
      usage: { prompt_tokens: body.prompt.length, completion_tokens: 7 },
    };
    const text = [...tokens, usage].map((one) => `data: ${JSON.stringify(one)}\n\n`).join("");
    running--;
    return new Response(`${text}data: [DONE]\n\n`, {
      headers: { "content-type": "text/event-stream" },
    });
  };
}

async function serving<T>(
  handler: (request: Request) => Response | Promise<Response>,
  use: (url: string) => Promise<T>,
): Promise<T> {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, handler);
  try {
    return await use(`http://127.0.0.1:${server.addr.port}`);
  } finally {
    await server.shutdown();
  }
}

function options(url: string, work: WorkloadOptions): LoadOptions {
  return { url, base: "base", adapter: (k) => `t/a${k}`, arrivals: work.arrivals };
}

Deno.test("a closed loop sends the whole plan and counts tokens and events", async () => {
  const seen: Seen = { bodies: [], most: 0 };
  const report = await serving(
    answer(seen),
    (url) => runLoad(planWorkload(WORK), options(url, WORK)),
  );
  assertEquals(seen.bodies.length, 12);
  assert(seen.most <= 4, `${seen.most} requests at once from 4 clients`);
  assertEquals([report.requests, report.outputTokens, report.eventsPerRequest], [12, 84, 7]);
  assert(report.ttft.p50 > 0 && report.endToEnd.p50 >= report.ttft.p50);
});

Deno.test("an open loop sends the same bodies, each adapter by its name", async () => {
  const seen: Seen = { bodies: [], most: 0 };
  const work: WorkloadOptions = {
    ...WORK,
    requests: 6,
    popularity: { type: "distinct", adapters: 3 },
    arrivals: { type: "open", rate: 1000 },
  };
  await serving(answer(seen), (url) => runLoad(planWorkload(work), options(url, work)));
  const names = seen.bodies.map(({ model }) => model).toSorted();
  assertEquals(names, ["t/a0", "t/a0", "t/a1", "t/a1", "t/a2", "t/a2"]);
  assert(seen.bodies.every((body) => body.ignore_eos === true && body.temperature === 0));
});

Deno.test("a refusal and a stream that fails end the run with the server's words", async () => {
  const refuse = () => new Response("no such model", { status: 404 });
  const fail = () => new Response(`data: {"error":{"message":"out of memory"}}\n\n`);
  for (const [handler, words] of [[refuse, "no such model"], [fail, "out of memory"]] as const) {
    await serving(handler, async (url) => {
      await assertRejects(() => runLoad(planWorkload(WORK), options(url, WORK)), Error, words);
    });
  }
});

Deno.test("events survive any cut of the bytes, characters included", async () => {
  const bytes = new TextEncoder().encode(
    `: hi\n\ndata: {"t":"né"}\n\ndata: {"u":1}\r\n\r\ndata: [DONE]\n\n`,
  );
  for (let size = 1; size <= bytes.length; size++) {
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) {
          controller.enqueue(bytes.slice(at, at + size));
        }
        controller.close();
      },
    });
    assertEquals(await Array.fromAsync(eventsOf(stream)), [`{"t":"né"}`, `{"u":1}`]);
  }
});

Deno.test("a report's figures are those of its traces", () => {
  const trace = {
    sent: 100,
    events: [150, 160, 180],
    ended: 190,
    promptTokens: 5,
    outputTokens: 3,
  };
  const report = reportOf([trace, { ...trace, sent: 50, outputTokens: 0 }], 2);
  assertEquals(report.outputTokens, 6);
  assertEquals(report.outputTokensPerSecond, 3);
  assertEquals(report.ttft, { p50: 100, p95: 100, p99: 100 });
  assertEquals(report.interToken, { p50: 20, p95: 20, p99: 20 });
  assertEquals(report.longestGap, 20);
  assertEquals(report.endToEnd, { p50: 140, p95: 140, p99: 140 });
});
