/** Which web pages may use a server: hosts in open mode, origins in every mode, and CORS. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../../server/http/app.ts";
import { Lifecycle, listen } from "../../../server/serve.ts";
import { errorOf as errorWithParam, HELLO } from "../asked.ts";
import { fakeContext } from "../fake_context.ts";
import { coreText, errorOf, openKeyedApp } from "../keyed_app.ts";

const EVIL = "https://evil.example";
const JSON_TYPE = { "content-type": "application/json" };

/** Statuses of one request with each `Host`. */
async function statuses(hosts: readonly string[], allowedHosts: readonly string[] = []) {
  const app = createApp(fakeContext({ allowedHosts }));
  return await Promise.all(hosts.map(async (host) => {
    const answer = await app.request("/v1/models", { headers: { host } });
    await answer.body?.cancel();
    return answer.status;
  }));
}

const LOOPBACK = [
  "localhost",
  "localhost:8000",
  "LOCALHOST",
  "127.0.0.1:8000",
  "127.8.9.1",
  "[::1]:1",
];
const ELSEWHERE = [
  ...["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"],
  ...["0.0.0.0", "[::]", "192.168.0.7", "a@localhost", "localhost, evil.example", "", "[::1"],
];

Deno.test("without keys a host is this machine's loopback, on any port, and no other", async () => {
  assertEquals(await statuses(LOOPBACK), LOOPBACK.map(() => 200));
  assertEquals(await statuses(ELSEWHERE), ELSEWHERE.map(() => 403));
});

Deno.test("--allowed-hosts names further hosts, on any port", async () => {
  const asked = ["lembas.lan:9000", "LEMBAS.lan", "evil.lembas.lan", "localhost", "evil.example"];
  assertEquals(await statuses(asked, ["lembas.lan"]), [200, 200, 403, 200, 403]);
});

Deno.test("a foreign host's refusal names it and the flag that lets it in", async () => {
  const app = createApp(fakeContext());
  const answer = await app.request("/v1/models", { headers: { host: "evil.example:80" } });
  const { status, type, code, message } = await errorWithParam(answer);
  assertEquals([status, type, code], [403, "insufficient_permissions", "foreign_host"]);
  assertStringIncludes(message, "--allowed-hosts evil.example");
  assertStringIncludes(message, "--open=false");
});

Deno.test("with keys any host will do: proxies, containers and probes choose their own", async () => {
  const app = createApp(fakeContext({ apiKey: "s3cret" }));
  for (const host of ["evil.example", "lembas.default.svc:8000", "10.1.2.3:8000"]) {
    const headers = { host, authorization: "Bearer s3cret" };
    assertEquals((await app.request("/v1/models", { headers })).status, 200);
  }
});

Deno.test("a rebound name reaches nothing of an open server, whatever the path", async () => {
  await using keyed = await openKeyedApp({ open: true });
  const headers = { host: "evil.example", origin: "http://evil.example" };
  const paths = [
    ...["/v1/models", "/v1/admin/tenants", "/v1/admin/backup", "/v1/cores", "/console", "/health"],
    ...["/metrics", "/openapi.json", "/nowhere"],
  ];
  for (const path of paths) {
    const { status, code } = await errorOf(await keyed.ask("GET", path, { headers }));
    assertEquals([path, status, code], [path, 403, "foreign_host"]);
  }
  const named = { ...headers, "lembas-tenant": "evil" };
  assertEquals((await keyed.ask("GET", "/v1/models", { headers: named })).status, 403);
  assertEquals(await keyed.store.tenants.find("evil"), undefined);
});

/** What a page elsewhere may send without asking first, or after a preflight that was not heeded. */
const FOREIGN: readonly Readonly<Record<string, string>>[] = [
  { origin: EVIL },
  { origin: "null" },
  { origin: EVIL, "sec-fetch-site": "cross-site" },
  { "sec-fetch-site": "cross-site" },
  { "sec-fetch-site": "same-site" },
  { origin: "http://localhost:3000", "sec-fetch-site": "same-site" },
  { origin: "http://localhost:8000", "sec-fetch-site": "cross-site" },
];

for (const open of [true, false]) {
  const mode = open ? "in open mode" : "with keys";
  Deno.test(`${mode} no page elsewhere changes anything`, async () => {
    await using keyed = await openKeyedApp({ open });
    const key = open ? undefined : keyed.keys.admin;
    const own = { host: "localhost:8000" };
    for (const seed of [1, 2]) {
      const json = { cores: coreText(keyed.loaded, seed) };
      const put = await keyed.ask("POST", "/v1/cores/shelf", { key, headers: own, json });
      assertEquals(put.status, 200, await put.text());
    }
    const form = new FormData();
    form.set("purpose", "fine-tune");
    form.set("file", new File(["{}"], "a.jsonl"));
    const tries: readonly (readonly [string, string, BodyInit?])[] = [
      ["POST", "/v1/cores/shelf/rollback"],
      ["POST", "/v1/files", form],
      ["POST", "/v1/fine_tuning/jobs/ftjob-1/cancel"],
      ["POST", "/v1/admin/tenants", "{}"],
      ["POST", "/console/tenants", new URLSearchParams({ id: "evil" })],
      ["POST", "/v1/chat/completions", JSON.stringify(HELLO)],
      ["DELETE", "/v1/cores/shelf"],
    ];
    for (const foreign of FOREIGN) {
      for (const [method, path, body] of tries) {
        const headers = { ...own, ...foreign };
        const asked = { key, headers, ...(body !== undefined && { body }) };
        const { status, code } = await errorOf(await keyed.ask(method, path, asked));
        assertEquals([path, foreign, status, code], [path, foreign, 403, "foreign_site"]);
      }
    }
    const kept = await keyed.store.cores.versions("default", "shelf");
    assertEquals(kept.map(({ version, current }) => [version, current]), [[2, true], [1, false]]);
  });
}

Deno.test("clients that are no browser, and pages of the server's own, go on working", async () => {
  const app = createApp(fakeContext());
  const own: readonly Readonly<Record<string, string>>[] = [
    {},
    { host: "localhost:8000" },
    { host: "localhost:8000", origin: "http://localhost:8000" },
    { host: "localhost:8000", origin: "http://localhost:8000", "sec-fetch-site": "same-origin" },
    { host: "localhost:8000", "sec-fetch-site": "none" },
  ];
  for (const headers of own) {
    const body = JSON.stringify(HELLO);
    const init = { method: "POST", headers: { ...JSON_TYPE, ...headers }, body };
    assertEquals((await app.request("/v1/chat/completions", init)).status, 200);
  }
});

Deno.test("--cors-origin lets one page in, with CORS headers and preflights", async () => {
  const page = "https://app.example";
  const app = createApp(fakeContext({ corsOrigins: [page], apiKey: "s3cret" }));
  const asking = {
    origin: page,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
  };
  const preflight = await app.request("/v1/chat/completions", {
    method: "OPTIONS",
    headers: asking,
  });
  const said = (name: string) => preflight.headers.get(`access-control-${name}`);
  assertEquals(preflight.status, 204);
  assertEquals(said("allow-origin"), page);
  assertEquals(said("allow-headers"), asking["access-control-request-headers"]);
  assertStringIncludes(said("allow-methods") ?? "", "POST");
  assertStringIncludes(said("allow-methods") ?? "", "DELETE");
  const headers = {
    ...JSON_TYPE,
    ...{ origin: page, "sec-fetch-site": "cross-site", authorization: "Bearer s3cret" },
  };
  const init = { method: "POST", headers, body: JSON.stringify(HELLO) };
  const answer = await app.request("/v1/chat/completions", init);
  assertEquals(answer.status, 200);
  assertEquals(answer.headers.get("access-control-allow-origin"), page);
  assertEquals(answer.headers.get("vary"), "Origin");
  assertStringIncludes(answer.headers.get("access-control-expose-headers") ?? "", "x-request-id");
  // an error is told to the page, too
  const wrong = await app.request("/v1/chat/completions", { ...init, body: "{" });
  assertEquals([wrong.status, wrong.headers.get("access-control-allow-origin")], [400, page]);
});

Deno.test("of other pages a server with --cors-origin refuses the preflight", async () => {
  const app = createApp(fakeContext({ corsOrigins: ["https://app.example"] }));
  const asking = { origin: EVIL, "access-control-request-method": "POST" };
  const preflight = await app.request("/v1/models", { method: "OPTIONS", headers: asking });
  assert(!preflight.ok);
  assertEquals(preflight.headers.get("access-control-allow-origin"), null);
  const read = await app.request("/v1/models", { headers: { origin: EVIL } });
  assertEquals(read.headers.get("access-control-allow-origin"), null);
  assertEquals(read.headers.get("vary"), "Origin");
});

Deno.test("--cors-origin * lets any page ask, and each still needs a key", async () => {
  const app = createApp(fakeContext({ corsOrigins: ["*"], apiKey: "s3cret" }));
  const headers = { ...JSON_TYPE, origin: EVIL, "sec-fetch-site": "cross-site" };
  const init = { method: "POST", headers, body: JSON.stringify(HELLO) };
  const answer = await app.request("/v1/chat/completions", init);
  assertEquals([answer.status, answer.headers.get("access-control-allow-origin")], [401, EVIL]);
});

Deno.test("no page reads the console, also where it may use the API", async () => {
  const page = "https://app.example";
  await using keyed = await openKeyedApp({ open: true, corsOrigins: [page] });
  const headers = { host: "localhost:8000", origin: page };
  const seen = await keyed.ask("GET", "/console/playground", { headers });
  assertEquals([seen.status, seen.headers.get("access-control-allow-origin")], [200, null]);
});

Deno.test("every answer says that no frame, sniffer or other site may use it", async () => {
  const app = createApp(fakeContext());
  for (const path of ["/health", "/v1/models", "/nowhere", "/openapi.json"]) {
    const { headers } = await app.request(path);
    assertEquals(headers.get("x-content-type-options"), "nosniff");
    assertEquals(headers.get("x-frame-options"), "DENY");
    assertEquals(headers.get("cross-origin-resource-policy"), "same-origin");
    assertStringIncludes(headers.get("content-security-policy") ?? "", "frame-ancestors 'none'");
    // what is true of a proxy's TLS is the proxy's to say
    assertEquals(headers.get("strict-transport-security"), null);
  }
});

Deno.test("over a socket the Host header decides, not the address that was dialled", async () => {
  const { fetch } = createApp(fakeContext());
  const lifecycle = new Lifecycle();
  const server = await listen({ host: "127.0.0.1", port: 0, fetch }, lifecycle);
  try {
    const port = Number(new URL(server.url).port);
    const first = async (host: string) => {
      using socket = await Deno.connect({ hostname: "127.0.0.1", port });
      const head = `GET /v1/models HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`;
      await socket.write(new TextEncoder().encode(head));
      return (await new Response(socket.readable).text()).split("\r\n")[0];
    };
    assertEquals(await first("evil.example"), "HTTP/1.1 403 Forbidden");
    assertEquals(await first(`127.0.0.1:${port}`), "HTTP/1.1 200 OK");
  } finally {
    await server.stop(1, () => Promise.resolve());
  }
});
