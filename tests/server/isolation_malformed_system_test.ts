/**
 * Bodies that are too large, broken or of another kind, and queries that make no sense, at every
 * endpoint that takes one: each is refused as `/openapi.json` says, and the server serves on.
 */
import { assert, assertEquals } from "@std/assert";
import { isMessagesPath } from "../../server/http/messages/errors.ts";
import { messageErrorSchema } from "../../server/http/messages/schema.ts";
import { IGNORED_HEADER } from "../../server/http/unknown_arguments.ts";
import { errorSchema } from "../../server/http/schema/common.ts";
import { type Asked, type Json, type KeyedApp, openKeyedApp } from "./keyed_app.ts";

const MOST = 1 << 20;

interface Operation {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly statuses: readonly number[];
  /** The media type of its body. */
  readonly body: string | undefined;
  readonly query: readonly string[];
}

async function operationsOf({ ask, keys }: KeyedApp): Promise<Operation[]> {
  const document = await (await ask("GET", "/openapi.json", { key: keys.admin })).json();
  return Object.entries<Record<string, Json>>(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method} ${path}`,
      method: method.toUpperCase(),
      path: path.replaceAll(/\{\w+\}/g, "acme"),
      statuses: Object.keys(operation["responses"] as Json).map(Number),
      body: Object.keys((operation["requestBody"] as Json | undefined)?.["content"] ?? {})[0],
      query: ((operation["parameters"] ?? []) as Json[])
        .filter((one) => one["in"] === "query").map((one) => String(one["name"])),
    }))
  );
}

/** Sends, and holds the answer against the description. */
async function refused(
  served: KeyedApp,
  { name, method, path, statuses }: Operation,
  asked: Asked & { readonly query?: string },
): Promise<number> {
  const at = `${path}${asked.query ?? ""}`;
  const response = await served.ask(method, at, { key: served.keys.admin, ...asked });
  const text = await response.text();
  assert(statuses.includes(response.status), `${name}: ${response.status} is not described`);
  assert(response.status >= 400 && response.status < 500, `${name}: ${response.status} ${text}`);
  (isMessagesPath(path) ? messageErrorSchema : errorSchema).parse(JSON.parse(text));
  assert(response.headers.get("x-request-id"), name);
  return response.status;
}

function repeated(text: string, count: number): ReadableStream<Uint8Array> {
  let left = count;
  return new ReadableStream({
    pull: (controller) => {
      if (left-- > 0) controller.enqueue(new TextEncoder().encode(text));
      else controller.close();
    },
  });
}

const JSON_TYPE = { "content-type": "application/json" };

/** Endpoints that require nothing, nor a prompt, and leave out what they do not know. */
const FREE: ReadonlySet<string> = new Set([
  "post /v1/responses/input_tokens",
  "post /v1/responses/compact",
  "post /v1/conversations",
]);

const BROKEN: readonly (readonly [string, Asked, number])[] = [
  ["no body", { headers: JSON_TYPE }, 400],
  ["no JSON", { body: "{", headers: JSON_TYPE }, 400],
  ["cut in mid-string", { body: '{"model": "ti', headers: JSON_TYPE }, 400],
  ["no object", { body: "[]", headers: JSON_TYPE }, 400],
  ["null", { body: "null", headers: JSON_TYPE }, 400],
  ["a number", { body: "1e999", headers: JSON_TYPE }, 400],
  ["no UTF-8", { body: Uint8Array.of(0x7b, 0xff, 0x7d), headers: JSON_TYPE }, 400],
  [
    "a byte order mark in UTF-16",
    { body: Uint8Array.of(0xff, 0xfe, 0x7b, 0), headers: JSON_TYPE },
    400,
  ],
  ["deep", { body: "[".repeat(5000) + "]".repeat(5000), headers: JSON_TYPE }, 400],
  ["a form", { body: new URLSearchParams({ model: "tiny" }) }, 415],
  ["multipart", { body: new FormData() }, 415],
  ["no type", { body: Uint8Array.of(0x7b, 0x7d) }, 415],
  ["compressed", { body: "{}", headers: { ...JSON_TYPE, "content-encoding": "gzip" } }, 415],
];

Deno.test("no route takes what another one is for", async () => {
  await using served = await openKeyedApp();
  const { routes } = served.app;
  // of any method: those of a path are told with a 405
  const own = routes.filter(({ method, path }) =>
    method !== "ALL" && !path.endsWith("*") && !path.startsWith("/console/")
  );
  const hidden = own.flatMap(({ method, path }) =>
    own.filter((earlier) => {
      if (earlier.path === path) return false;
      const pattern = earlier.path.replaceAll(
        /:\w+(?:\{(.+?)\})?(?=\/|$)/g,
        (_, own = "[^/]+") => own,
      );
      return new RegExp(`^${pattern}$`).test(path);
    }).map((earlier) => `${method} ${path} behind ${earlier.path}`)
  );
  assertEquals(hidden, []);
});

Deno.test("what is no request is refused as described, by every endpoint", async (t) => {
  await using served = await openKeyedApp();
  const operations = await operationsOf(served);
  const json = operations.filter(({ body }) => body === "application/json");
  assert(json.length >= 9, json.map(({ name }) => name).join());
  for (const [what, asked, status] of BROKEN) {
    await t.step(`a body that is ${what}`, async () => {
      for (const operation of json) {
        assertEquals(await refused(served, operation, asked), status, operation.name);
      }
    });
  }
  await t.step("a body above the limit, said beforehand or not", async () => {
    const text = " ".repeat(1 << 16);
    for (const operation of json) {
      const said = {
        body: text.repeat(17),
        headers: { ...JSON_TYPE, "content-length": String(17 << 16) },
      };
      assertEquals(await refused(served, operation, said), 413, operation.name);
      const unsaid = { body: repeated(text, 1e6), headers: JSON_TYPE };
      assertEquals(await refused(served, operation, unsaid), 413, operation.name);
    }
  });
  const unknown = ['{"nonsense": 1}', '{"__proto__": {"model": "nobody"}}'];
  await t.step(
    "a field that nobody knows, or a prototype, where something is required",
    async () => {
      for (const operation of json.filter(({ name }) => !FREE.has(name))) {
        for (const body of unknown) {
          const status = await refused(served, operation, { body, headers: JSON_TYPE });
          assertEquals(status, 400, operation.name);
        }
      }
    },
  );
  await t.step("the same where nothing is: it is left out, and named", async () => {
    for (const { name, method, path } of json.filter(({ name }) => FREE.has(name))) {
      for (const body of unknown) {
        const asked = { key: served.keys.admin, body, headers: JSON_TYPE };
        const response = await served.ask(method, path, asked);
        assertEquals(response.status, 200, `${name}: ${await response.text()}`);
        const named = response.headers.get(IGNORED_HEADER);
        assertEquals(named, body.includes("nonsense") ? "nonsense" : named, name);
      }
    }
  });
  await t.step("uploads that are none", () => tryUploads(served, operations));
  await t.step("queries that make no sense", () => tryQueries(served, operations));
  const { ask, keys } = served;
  assertEquals((await ask("GET", "/v1/models", { key: keys.acme })).status, 200);
});

async function tryUploads(served: KeyedApp, operations: readonly Operation[]): Promise<void> {
  const [upload] = operations.filter(({ body }) => body === "multipart/form-data");
  assert(upload !== undefined);
  const type = { "content-type": "multipart/form-data; boundary=b" };
  const part = '--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n';
  const cases: readonly (readonly [Asked, number])[] = [
    [{ json: { purpose: "fine-tune" } }, 415],
    [{ body: "x", headers: { "content-type": "multipart/form-data" } }, 415],
    [{ body: "x", headers: type }, 400],
    [{ body: part, headers: type }, 400],
    [{ body: `${part}x\r\n--b--\r\n`, headers: type }, 400],
    [{ body: new FormData() }, 400],
    [{ body: repeated(`${part}${"x".repeat(1 << 16)}`, 1e6), headers: type }, 413],
    [{ body: part, headers: { ...type, "content-length": String(4 * MOST) } }, 413],
  ];
  for (const [asked, status] of cases) {
    assertEquals(await refused(served, upload, asked), status, JSON.stringify(asked));
  }
  const files = await served.store.forTenant("default").files.list({
    ...{ after: undefined, limit: 10, order: "asc", purpose: undefined },
  });
  assertEquals(files.items, []);
}

async function tryQueries(served: KeyedApp, operations: readonly Operation[]): Promise<void> {
  const listing = operations.filter(({ query }) => query.length > 0);
  assert(listing.length >= 8, listing.map(({ name }) => name).join());
  for (const operation of listing) {
    const known = operation.query.map((name) => `?${name}=%00`);
    const limits = operation.query.includes("limit")
      ? ["?limit=-1", "?limit=1e3", "?limit=99999999999", "?limit=x", "?limit="]
      : [];
    for (const query of ["?nonsense=1", ...known, ...limits]) {
      await refused(served, operation, { query });
    }
  }
}
