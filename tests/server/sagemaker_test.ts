/** SageMaker's sessions, adapters and headers, over a fake engine. */
import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { createApp } from "../../server/http/app.ts";
import { Sessions } from "../../server/http/sagemaker/sessions.ts";
import { errorOf, type Json } from "./asked.ts";
import { type FakeContext, fakeContext } from "./fake_context.ts";

type Ask = (path: string, body: Json, headers?: HeadersInit) => Promise<Response>;

/** One application, since sessions are its own. */
function asking(context: FakeContext): Ask {
  const app = createApp(context);
  return async (path, body, headers = {}) =>
    await app.request(path, {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json", ...Object.fromEntries(new Headers(headers)) },
    });
}

const SESSION = "x-amzn-sagemaker-session-id";
const PROMPT = { prompt: "a" };

async function opened(ask: Ask): Promise<string> {
  const response = await ask("/invocations", { requestType: "NEW_SESSION" });
  const said = response.headers.get("x-amzn-sagemaker-new-session-id") ?? "";
  assertMatch(said, /^[0-9a-f-]{36}; Expires=\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  return said.split(";")[0] ?? "";
}

Deno.test("a session is opened, asked in, and closed once", async () => {
  const ask = asking(fakeContext());
  const id = await opened(ask);
  assertNotEquals(id, await opened(ask));
  const answer = await ask("/invocations", PROMPT, { [SESSION]: id });
  assertEquals((await answer.json()).object, "text_completion");
  const closed = await ask("/invocations", { requestType: "CLOSE" }, { [SESSION]: id });
  assertEquals([closed.status, closed.headers.get("x-amzn-sagemaker-closed-session-id")], [
    200,
    id,
  ]);
  for (const body of [PROMPT, { requestType: "CLOSE" }]) {
    const { status, code } = await errorOf(await ask("/invocations", body, { [SESSION]: id }));
    assertEquals([status, code], [400, "session_not_found"]);
  }
});

Deno.test("a session is closed by its header, and nothing else is said", async () => {
  const ask = asking(fakeContext());
  const headers = { [SESSION]: await opened(ask) };
  const nameless = await errorOf(await ask("/invocations", { requestType: "CLOSE" }));
  assertEquals([nameless.status, nameless.code], [424, "invalid_session_id"]);
  for (const body of [{ requestType: "CLOSE", more: 1 }, { requestType: "OPEN" }]) {
    assertEquals((await errorOf(await ask("/invocations", body, headers))).status, 400);
  }
});

Deno.test("sessions are their tenant's, expire, and the oldest of too many goes", () => {
  let now = 0;
  const sessions = new Sessions(() => now);
  const { id, expires } = sessions.open("ada");
  assertEquals([sessions.has("ada", id), sessions.has("bob", id)], [true, false]);
  assertEquals([sessions.close("bob", id), sessions.has("ada", id)], [false, true]);
  now = expires;
  assertEquals(sessions.has("ada", id), false);
  const first = sessions.open("ada");
  const others = Array.from({ length: 1024 }, () => sessions.open("ada"));
  assertEquals(sessions.has("ada", first.id), false);
  assertEquals(others.every((each) => sessions.has("ada", each.id)), true);
});

Deno.test("adapters are loaded and removed by SageMaker's path, and named by its header", async () => {
  const context = fakeContext();
  const ask = asking(context);
  const loaded = await ask("/adapters", { name: "haiku", src: "some/lora", preload: true });
  assertEquals([loaded.status, await loaded.text()], [
    200,
    "Success: LoRA adapter 'haiku' added successfully.",
  ]);
  const named = { "x-amzn-sagemaker-adapter-identifier": "haiku" };
  assertEquals((await (await ask("/invocations", PROMPT, named)).json()).model, "haiku");
  assertEquals(context.engine.requests[0]?.adapter?.name, "default/haiku@1");
  const remove = () => createApp(context).request("/adapters/haiku", { method: "DELETE" });
  const removed = await remove();
  assertEquals([removed.status, context.adapters.cores.size], [200, 0]);
  await removed.body?.cancel();
  assertEquals((await errorOf(await remove())).status, 404);
});
