// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Requests whose tenant is removed while they come in: each was let in, reads its body's end only
 * then, and ends or is told that its tenant is gone; none is the server's fault.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { coreText, errorOf, type KeyedApp, openKeyedApp } from "./keyed_app.ts";
import { GoneError } from "../../adapters/store/errors.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { StoreMetering } from "../../server/usage/metering.ts";
import { openTestStore } from "../adapters/store/test_store.ts";
import { ROWS } from "./tuning_server.ts";

interface Late {
  readonly path: string;
  readonly key: string;
  readonly type: string;
  readonly body: string;
}

/** Sends all but the body's last byte, removes the tenant once that is read, and sends the rest. */
async function raced({ ask, store }: KeyedApp, tenant: string, late: Late): Promise<Response> {
  const bytes = new TextEncoder().encode(late.body);
  async function* body() {
    yield bytes.subarray(0, -1);
    // who reads on has let the request in
    assert(await store.tenants.remove(tenant), "it was there");
    yield bytes.subarray(-1);
  }
  return await ask("POST", late.path, {
    key: late.key,
    body: ReadableStream.from(body()) as unknown as BodyInit,
    headers: { "content-type": late.type },
  });
}

Deno.test("a request that races with its tenant's removal ends, or is told that it is gone", async () => {
  await using served = await openKeyedApp();
  const { store, loaded, issue, keys, lines } = served;
  const json = (value: unknown) => ({ type: "application/json", body: JSON.stringify(value) });
  const file = [
    '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune',
    `\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n${ROWS}`,
    "\r\n--b--",
  ].join("");
  const late = {
    "/v1/completions": json({ model: "tiny", prompt: "hello", max_tokens: 2 }),
    "/v1/cores/shelf": json({ cores: coreText(loaded, 1) }),
    "/v1/files": { type: "multipart/form-data; boundary=b", body: file },
    "/v1/fine_tuning/jobs": json({ model: "tiny", training_file: "file-1" }),
    "/v1/admin/tenants/racer/keys": json({ name: "till", scopes: ["infer"] }),
  };
  const expected = {
    "/v1/completions": [200],
    "/v1/cores/shelf": [404],
    "/v1/files": [404],
    // its file is gone first
    "/v1/fine_tuning/jobs": [400],
    "/v1/admin/tenants/racer/keys": [404],
  };
  for (const [path, sent] of Object.entries(late)) {
    const key = path.startsWith("/v1/admin")
      ? keys.admin
      : await issue("racer", ["infer", "train"]);
    await store.tenants.ensure("racer");
    const response = await raced(served, "racer", { path, key, ...sent });
    const text = await response.clone().text();
    assertEquals([response.status], expected[path as keyof typeof expected], `${path}: ${text}`);
    if (response.status === 404) {
      assertStringIncludes((await errorOf(response)).message, "racer", path);
    }
  }
  assertEquals(lines.filter((line) => /internal|\berror\b/.test(line)), []);
});

Deno.test("what is written for a tenant that was removed is refused as gone", async () => {
  await using served = await openKeyedApp();
  const { store } = served;
  await store.tenants.ensure("racer");
  const { files } = store.forTenant("racer");
  await using staged = await files.stage(ReadableStream.from([new Uint8Array(3)]));
  await store.tenants.remove("racer");
  const refused = await staged.commit({ filename: "x", purpose: "fine-tune" }).catch((error) =>
    error
  );
  assert(refused instanceof GoneError, String(refused));
});

Deno.test("what a request used whose tenant was removed meanwhile is written down", async () => {
  await using opened = await openTestStore();
  const { store } = opened;
  await store.tenants.ensure("racer");
  const principal = { tenant: "racer", scopes: new Set(["infer"] as const), keyId: null };
  await using metering = new StoreMetering(store, createLog("silent"));
  const request = await metering.begin(principal, "req-1");
  await store.tenants.remove("racer");
  const usage = {
    prompt_tokens: 3,
    completion_tokens: 2,
    total_tokens: 5,
    prompt_tokens_details: { cached_tokens: 0 },
  };
  await request.complete({ id: "cmpl-1", kind: "completion", model: "tiny", usage });
  const [used] = await store.usage.total({ tenant: "racer", by: "tenant" });
  assertEquals([used?.promptTokens, used?.completionTokens], [3, 2]);
});
