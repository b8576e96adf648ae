// deno-lint-ignore-file camelcase -- names of the wire format
/** The console's forms: one schema with the API, and pages that ask the store a set number of times. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { openKeyedApp } from "../keyed_app.ts";
import { Visitor } from "./visitor.ts";

const GOOD = { requests_per_minute: "60", weight: "2.5", priority: "-1" };

/** Field, value, and what is said of it. */
const WRONG: readonly (readonly [string, string, string])[] = [
  ["requests_per_minute", "0", "Expected a value &gt;= 1, but got 0"],
  ["tokens_per_minute", "0", "Expected a value &gt;= 1, but got 0"],
  ["concurrency", "0", "Expected a value &gt;= 1, but got 0"],
  ["requests_per_minute", "1.5", "expected an integer"],
  ["queued", "-1", "Expected a value &gt;= 0, but got -1"],
  ["weight", "0", "Expected a value &gt; 0, but got 0"],
  ["weight", "-1", "Expected a value &gt; 0, but got -1"],
  ["weight", "", "expected a number"],
  ["weight", "much", "expected a number"],
  ["priority", "1001", "Expected a value &lt;= 1000, but got 1001"],
  ["stored_bytes", "many", "expected a number"],
];

Deno.test("the console takes the limits that the API takes, and refuses in its words", async () => {
  await using keyed = await openKeyedApp({ open: true });
  const visitor = new Visitor(keyed.app);
  await visitor.post("/console/tenants", { id: "acme" });
  const before = (await keyed.store.tenants.find("acme"))?.limits;
  for (const [field, value, text] of WRONG) {
    const form = { ...GOOD, [field]: value };
    const { status, html } = await visitor.post("/console/tenants/acme/limits", form);
    assertEquals([field, value, status], [field, value, 400]);
    assertStringIncludes(html, field);
    assertStringIncludes(html, text);
  }
  assertEquals((await keyed.store.tenants.find("acme"))?.limits, before);
});

Deno.test("the console makes the keys that the API makes", async () => {
  await using keyed = await openKeyedApp({ open: true });
  const visitor = new Visitor(keyed.app);
  const path = "/console/tenants/acme/keys";
  const wrong: readonly (readonly [Record<string, string>, string])[] = [
    [{ name: "a" }, "scopes"],
    [{ scope: "infer", name: "a\u0007" }, "no control characters"],
    [{ scope: "infer", name: "a".repeat(201) }, "at most 200 characters"],
    [{ scope: "infer", expires: "2020-01-01" }, "in the past"],
    [{ scope: "infer", expires: "soon" }, "expires_at"],
    [{ scope: "god" }, "supported values"],
  ];
  for (const [form, text] of wrong) {
    const { status, html } = await visitor.post(path, form);
    assertEquals([form, status], [form, 400]);
    assertStringIncludes(html, text);
  }
  assertEquals((await visitor.post(path, { scope: "infer", name: "app" })).status, 200);
});

/** Statements that reach the store's thread while `work` runs. */
async function statements(work: () => Promise<unknown>): Promise<number> {
  const { postMessage } = Worker.prototype;
  let count = 0;
  Worker.prototype.postMessage = function (this: Worker, message: unknown, ...rest: unknown[]) {
    const { order } = message as { readonly order?: { readonly type?: string } };
    if (order?.type === "query") count++;
    return Reflect.apply(postMessage, this, [message, ...rest]);
  };
  try {
    await work();
  } finally {
    Worker.prototype.postMessage = postMessage;
  }
  return count;
}

Deno.test("a page asks the store as often for many tenants as for few", async () => {
  await using keyed = await openKeyedApp({ open: true });
  const visitor = new Visitor(keyed.app);
  const paths = ["", "/tenants", "/cores", "/jobs", "/playground", "/tenants/acme"]
    .map((path) => `/console${path}`);
  const count = async () => {
    const counts: Record<string, number> = {};
    for (const path of paths) counts[path] = await statements(() => visitor.get(path));
    return counts;
  };
  const few = await count();
  for (let i = 0; i < 12; i++) {
    await keyed.issue(`tenant-${i}`, ["infer"]);
    await keyed.issue("acme", ["infer"]);
  }
  assertEquals(await count(), few);
});
