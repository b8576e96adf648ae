/** One HTTP request's generations: what becomes of them while a slow client reads. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../../server/http/app.ts";
import { fakeContext } from "../fake_context.ts";

/** Reasons of rejections that nobody handled meanwhile. */
function unhandled(): Disposable & { readonly reasons: readonly unknown[] } {
  const reasons: unknown[] = [];
  const hear = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    reasons.push(event.reason);
  };
  globalThis.addEventListener("unhandledrejection", hear);
  return {
    reasons,
    [Symbol.dispose]: () => globalThis.removeEventListener("unhandledrejection", hear),
  };
}

/** Long enough for rejections that are on their way to be told. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((go) => setTimeout(go, 0));
}

const TWO_PROMPTS = { model: "tiny", prompt: ["one", "two"], stream: true };

Deno.test("a step that fails while a slow client reads another prompt ends the stream, not the process", async () => {
  using seen = unhandled();
  const context = fakeContext();
  context.engine.failure = { step: 1, error: new Error("internal: the step failed") };
  const answer = await createApp(context).request("/v1/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(TWO_PROMPTS),
  });
  const reader = answer.body?.getReader();
  await reader?.read();
  await turns(5); // the client does not read on, and both prompts have failed
  assertEquals(seen.reasons, []);
  let rest = "";
  for (let next = await reader?.read(); next?.done === false; next = await reader?.read()) {
    rest += new TextDecoder().decode(next.value);
  }
  assertStringIncludes(rest, "internal_error");
  await turns(5);
  assertEquals(seen.reasons, []);
  assertEquals(context.engine.running, 0);
});

Deno.test("a client that leaves while another prompt's step fails leaves nothing behind", async () => {
  using seen = unhandled();
  const context = fakeContext();
  context.engine.failure = { step: 1, error: new Error("internal: the step failed") };
  const client = new AbortController();
  const answer = await createApp(context).request("/v1/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(TWO_PROMPTS),
    signal: client.signal,
  });
  const reader = answer.body?.getReader();
  await reader?.read();
  client.abort();
  await turns(5);
  assertEquals(seen.reasons, []);
  assertEquals([context.engine.running, context.lifecycle.active], [0, 0]);
});
