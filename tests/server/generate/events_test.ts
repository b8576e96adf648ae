/** Event streams by themselves: pulled, not pushed, and closed once. */
import { assertEquals } from "@std/assert";
import { type EventStream, eventStream } from "../../../server/generate/answer.ts";

/** Events e1, e2, … that count how many were asked for. */
function counted(limit: number): { events: AsyncIterator<string>; taken: () => number } {
  let taken = 0;
  return {
    events: {
      next: () => {
        if (taken === limit) return Promise.resolve({ done: true, value: undefined });
        return Promise.resolve({ done: false, value: `data: e${++taken}\n\n` });
      },
    },
    taken: () => taken,
  };
}

function stream(
  events: AsyncIterator<string>,
  options: { readonly close?: () => void; readonly signal?: AbortSignal } = {},
): EventStream {
  const { close = () => {}, signal = new AbortController().signal } = options;
  return eventStream({ events, signal, close, onError: (error) => `last: ${error}` });
}

Deno.test("events are taken as the client reads, none ahead", async () => {
  const { events, taken } = counted(1_000_000);
  const { response } = stream(events);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(taken(), 0);
  const reader = response.body?.getReader();
  await reader?.read();
  await reader?.read();
  assertEquals(taken(), 2);
  await reader?.cancel();
});

Deno.test("a stream closes once, whether read to its end, cancelled or failed", async () => {
  let closed = 0;
  const close = () => void closed++;
  const read = stream(counted(2).events, { close });
  assertEquals(await read.response.text(), "data: e1\n\ndata: e2\n\n");
  assertEquals([await read.ended, closed], ["done", 1]);
  const cut = stream(counted(2).events, { close });
  await cut.response.body?.cancel();
  assertEquals([await cut.ended, closed], ["cancelled", 2]);
  const broken = { next: () => Promise.reject(new Error("no")) };
  const failed = stream(broken, { close });
  assertEquals(await failed.response.text(), "last: Error: no");
  assertEquals([await failed.ended, closed], ["failed", 3]);
});

Deno.test("a cancelled stream lets its events' own cleanup run", async () => {
  let cleaned = false;
  async function* endless(): AsyncGenerator<string> {
    try {
      while (true) yield await Promise.resolve("data: x\n\n");
    } finally {
      cleaned = true;
    }
  }
  const { response } = stream(endless());
  const reader = response.body?.getReader();
  await reader?.read();
  await reader?.cancel();
  await new Promise((resolve) => setTimeout(resolve, 0));
  assertEquals(cleaned, true);
});

Deno.test("a stream whose client has left ends without being read", async () => {
  let closed = 0;
  const close = () => void closed++;
  const leave = new AbortController();
  const open = stream(counted(9).events, { close, signal: leave.signal });
  leave.abort();
  assertEquals([await open.ended, closed], ["cancelled", 1]);
  const late = stream(counted(9).events, { close, signal: leave.signal });
  assertEquals([await late.ended, closed], ["cancelled", 2]);
});
