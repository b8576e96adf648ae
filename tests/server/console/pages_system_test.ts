// deno-lint-ignore-file camelcase -- names of the wire format
/** The console's pages without a browser: what they show to whom, and what their forms do. */
import { assert, assertEquals, assertExists, assertMatch, assertStringIncludes } from "@std/assert";
import { type KeyedApp, openKeyedApp } from "../keyed_app.ts";
import { someCore } from "../engine_context.ts";
import { addCores, addUsage, trainJob } from "./furnish.ts";
import { Visitor } from "./visitor.ts";

Deno.test("the console's pages", async (t) => {
  await using keyed = await openKeyedApp();
  await addCores(keyed);
  await addUsage(keyed);
  const job = await trainJob(keyed);
  const [admin, acme] = [new Visitor(keyed.app), new Visitor(keyed.app)];
  await admin.signIn(keyed.keys.admin);
  await acme.signIn(keyed.keys.acme);
  const run = (name: string, body: () => Promise<void>) => t.step(name, body);

  await run(
    "every page is whole, says nothing inline and loads nothing from elsewhere",
    async () => {
      for (const path of pagesWith(job)) {
        const { status, html, headers } = await admin.get(path);
        assertEquals(status, 200, path);
        assertMatch(html, /^<!doctype html><html lang="en">/);
        assertEquals(html.match(/<h1\b/g)?.length, 1, `${path} has one heading`);
        assert(!/ style=| on\w+=|<script(?! src="\/console\/assets\/)|https?:/.test(html), path);
        const policy = headers.get("content-security-policy") ?? "";
        assertStringIncludes(policy, "default-src 'none'");
        assert(!/unsafe|\*/.test(policy));
        assertEquals(headers.get("cache-control"), "no-store");
      }
    },
  );

  await run("a tenant's key sees its tenant and no other, whatever it asks for", async () => {
    for (const path of ["", "/cores", "/jobs", "/playground", "/tenants/acme"]) {
      const { status, html } = await acme.get(`/console${path}`);
      assertEquals(status, 200, path);
      assert(!html.includes("globex"), `${path} tells of another tenant`);
    }
    assertEquals((await acme.get("/console/tenants")).location, "/console/tenants/acme");
    const others = ["tenants/globex", "cores/globex/order", `jobs/globex/${job}`, "live"];
    for (const path of [...others, "tenants/nobody", "cores/nobody/order"]) {
      assertEquals((await acme.get(`/console/${path}`)).status, 404, path);
    }
    const elsewhere = await acme.get("/console/jobs?tenant=globex");
    assertStringIncludes(elsewhere.html, job);
  });

  await run(
    "a tenant's key changes neither its limits nor its keys, and no other's cores",
    async () => {
      const forms = [
        ["tenants", { id: "more" }],
        ["tenants/acme/limits", { weight: "100", priority: "0" }],
        ["tenants/acme/keys", { scope: "admin" }],
        ["tenants/acme/remove", { id: "acme" }],
        ["cores/globex/order/delete", { version: "1" }],
      ] as const;
      for (const [path, fields] of forms) {
        assertEquals((await acme.post(`/console/${path}`, fields)).status, 404, path);
      }
      assertEquals((await keyed.store.cores.versions("globex", "order")).length, 1);
    },
  );

  await run(
    "adapters of the directory are listed beside the store's, each tenant's own",
    async () => {
      const { registry, factors } = keyed.loaded;
      for (const name of ["acme/filed", "globex/filed"]) {
        registry.add(name, { core: someCore(factors, 9), source: "/adapters/filed.safetensors" });
      }
      const all = (await admin.get("/console/cores")).html;
      assertMatch(
        all,
        /Loaded from files[^]*acme\/filed@1[^]*\/adapters\/filed\.safetensors[^]*globex\/filed/,
      );
      const own = (await acme.get("/console/cores")).html;
      assertStringIncludes(own, "acme/filed@1");
      assert(!/globex|\/adapters\//.test(own), "another tenant's, or a path of the server's");
      for (const name of ["acme/filed", "globex/filed"]) registry.remove(name);
      assert(!(await admin.get("/console/cores")).html.includes("Loaded from files"));
    },
  );

  await run(
    "publishing and rolling back change what a name stands for",
    () => versions(keyed, acme),
  );
  await run(
    "an administrator adds a tenant, limits it, and removes it",
    () => tenants(keyed, admin),
  );
  await run(
    "a key is shown once, works at once, and does not once revoked",
    () => keys(keyed, admin),
  );
  await run("what people write is text on a page", async () => {
    const name = `<img src=x onerror=alert(1)>"'&`;
    await admin.post("/console/tenants/acme/keys", { name, scope: "infer" });
    const { html } = await admin.get("/console/tenants/acme");
    assert(!html.includes("<img src=x"));
    assertStringIncludes(html, "&lt;img src=x onerror=alert(1)&gt;");
  });

  await run(
    "the playground answers by both models without a script, with errors beside answers",
    async () => {
      const fields = { prompt: "hello", max_tokens: "4", temperature: "0" };
      const { html } = await acme.post("/console/playground", {
        ...{ ...fields, left: "tiny", right: "globex/order" },
      });
      assertMatch(html, /<output aria-live="polite">[^<]+<\/output>/);
      assertMatch(html, /tokens after [\d.]+ s/);
      assertMatch(html, /The model `globex\/order` does not exist/);
    },
  );

  await run("the playground streams as the endpoint for chats does", async () => {
    const { status, html, headers } = await acme.post("/console/playground/answer", {
      ...{ prompt: "hello", max_tokens: "4", temperature: "0" },
      ...{ side: "right", left: "nothing", right: "tiny" },
    });
    assertEquals(status, 200, html);
    assertEquals(headers.get("content-type"), "text/event-stream; charset=utf-8");
    assertStringIncludes(html, '"completion_tokens":');
    assertStringIncludes(html, "data: [DONE]");
  });

  await run(
    "a job's curve is a picture with both losses, and its page has its events",
    async () => {
      const curve = await acme.get(`/console/jobs/acme/${job}/curve.svg`);
      assertEquals(curve.headers.get("content-type"), "image/svg+xml");
      assertMatch(curve.html, /<path class="training line"/);
      assertMatch(curve.html, /<path class="validation line"/);
      assertMatch(curve.html, /<path class="base line"[^]*>base's loss, \d\.\d{3}</);
      const page = await acme.get(`/console/jobs/acme/${job}`);
      assertStringIncludes(page.html, "succeeded");
      assertMatch(page.html, /Across: steps of the optimizer[^]*Upward: the loss, in nats/);
      assertMatch(page.html, /Training 24 examples for 4 epochs/);
      const over = await acme.post(`/console/jobs/acme/${job}/cancel`, {});
      assertEquals(over.status, 400);
    },
  );

  await run(
    "an administrator sees ended jobs of all tenants, and one tenant's by page",
    async () => {
      const all = await admin.get("/console/jobs");
      assertStringIncludes(all.html, "No job is under way.");
      assertMatch(all.html, RegExp(`All jobs</h2>[^]*/console/jobs/acme/${job}"[^]*succeeded`));
      const none = await admin.get("/console/jobs?tenant=globex");
      assertStringIncludes(none.html, "globex has no job yet");
      assert(!none.html.includes(job));
      const { jobs } = keyed.store.forTenant("globex");
      const record = await keyed.store.forTenant("acme").jobs.find(job);
      assertExists(record);
      const { id: _, createdAt: __, ...fields } = record;
      for (let i = 0; i < 51; i++) await jobs.create({ ...fields, tenant: "globex" });
      const first = await admin.get("/console/jobs?tenant=globex");
      const more = /href="(\?after=[^"]+)"/.exec(first.html)?.[1]?.replaceAll("&amp;", "&") ?? "";
      const rest = await admin.get(`/console/jobs${more}`);
      assertEquals(rest.html.match(/<tr><td>/g)?.length, 1);
      assert(!rest.html.includes(job), "the next page is that of the same tenant");
    },
  );

  await run("what is not there is a page that says so", async () => {
    const { status, html } = await admin.get("/console/nowhere");
    assertEquals(status, 404);
    assertStringIncludes(html, "There is no page");
    assertEquals((await admin.get("/console/cores?after=")).status, 200);
    assertEquals((await admin.get("/console/tenants?after=gone")).status, 404);
  });
});

function pagesWith(job: string): string[] {
  const paths = ["", "/tenants", "/tenants/acme", "/cores", "/cores/acme/shelf", "/jobs"];
  return [...paths, `/jobs/acme/${job}`, "/jobs?tenant=acme", "/playground"]
    .map((path) => `/console${path}`);
}

async function versions({ store }: KeyedApp, visitor: Visitor): Promise<void> {
  const current = async () =>
    (await store.cores.resolve("acme", "shelf", { type: "latest" }))?.version;
  const path = "/console/cores/acme/shelf";
  assertEquals(await current(), 2);
  assertMatch((await visitor.get(path)).html, /stands for version 2/);
  assertEquals((await visitor.post(`${path}/rollback`, {})).location, `${path}?done=rolled-back`);
  assertEquals(await current(), 1);
  assertEquals((await visitor.post(`${path}/rollback`, {})).status, 400);
  await visitor.post(`${path}/publish`, { version: "2" });
  assertEquals(await current(), 2);
  assertEquals((await visitor.post(`${path}/publish`, { version: "7" })).status, 400);
  assertEquals((await visitor.post(`${path}/delete`, { version: "2" })).status, 303);
  assertEquals(await current(), 1);
}

async function tenants({ store }: KeyedApp, visitor: Visitor): Promise<void> {
  const made = await visitor.post("/console/tenants", { id: "umbra" });
  assertEquals(made.location, "/console/tenants/umbra?done=created");
  assertEquals((await visitor.post("/console/tenants", { id: "umbra" })).status, 409);
  assertEquals((await visitor.post("/console/tenants", { id: "../x" })).status, 400);
  const limits = { requests_per_minute: "60", tokens_per_minute: "", concurrency: "4", queued: "" };
  const rest = { stored_bytes: "10 GiB", weight: "2.5", priority: "-1" };
  await visitor.post("/console/tenants/umbra/limits", { ...limits, ...rest });
  assertEquals((await store.tenants.find("umbra"))?.limits, {
    requestsPerMinute: 60,
    tokensPerMinute: null,
    concurrency: 4,
    queued: null,
    storedBytes: 10 * 2 ** 30,
    weight: 2.5,
    priority: -1,
  });
  const wrong = { ...limits, ...rest, weight: "much" };
  assertEquals((await visitor.post("/console/tenants/umbra/limits", wrong)).status, 400);
  assertEquals((await visitor.post("/console/tenants/umbra/remove", { id: "umbr" })).status, 400);
  await visitor.post("/console/tenants/umbra/remove", { id: "umbra" });
  assertEquals(await store.tenants.find("umbra"), undefined);
}

async function keys({ ask }: KeyedApp, visitor: Visitor): Promise<void> {
  const path = "/console/tenants/globex";
  const { html } = await visitor.post(`${path}/keys`, { name: "till", scope: "infer" });
  const key = /<code id="new-key">(lmb_\w+)<\/code>/.exec(html)?.[1] ?? "";
  assertEquals((await ask("GET", "/v1/models", { key })).status, 200);
  const after = await visitor.get(path);
  assert(!after.html.includes(key), "it is shown once");
  const hint = key.slice(0, 10);
  const form = RegExp(
    `action="(${path}/keys/key_\\w+/revoke)"[^]*?aria-label="Revoke key ${hint}"`,
  );
  const action = after.html.split("<tr>").map((row) => form.exec(row)?.[1]).find((one) => one);
  assertEquals((await visitor.post(action ?? "", {})).location, `${path}?done=revoked`);
  assertEquals((await ask("GET", "/v1/models", { key })).status, 401);
  assertEquals((await visitor.post(`${path}/keys`, { name: "none" })).status, 400);
  const past = { scope: "infer", expires: "2001-01-01" };
  assertEquals((await visitor.post(`${path}/keys`, past)).status, 400);
}
