/** What the application says of itself at `/openapi.json`. */
import { assert, assertEquals } from "@std/assert";
import { createApp } from "../../../server/http/app.ts";
import type { Json } from "../asked.ts";
import { fakeContext } from "../fake_context.ts";

Deno.test("the OpenAPI document names every route and refers only to what it defines", async () => {
  const app = createApp(fakeContext());
  const document = await (await app.request("/openapi.json")).json();
  assertEquals(document.openapi, "3.1.0");
  const described = Object.entries<Json>(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
  );
  const served = app.routes.filter(({ method }) => method !== "ALL").map(({ method, path }) =>
    `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`
  );
  const undocumented = ["GET /", "GET /openapi.json", "GET /v1/models/{tenant}/{name}"];
  assertEquals(
    described.toSorted(),
    [...new Set(served)]
      .filter((route) => !undocumented.includes(route) && !route.startsWith("GET /docs"))
      .toSorted(),
  );
  const text = JSON.stringify(document);
  for (const [, name = ""] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
    assert(name in document.components.schemas, `${name} is referred to but not defined`);
  }
  const { schemas } = document.components;
  assertEquals(schemas.StreamOptions.additionalProperties, false);
  // a value is of all parts at once: none says again, and otherwise, what another one says
  for (const [name, { allOf = [] }] of Object.entries<Json>(schemas)) {
    const said = (allOf as Json[]).flatMap(({ $ref, properties = {} }) =>
      Object.keys(
        $ref === undefined
          ? properties ?? {}
          : schemas[`${$ref}`.split("/").at(-1) ?? ""].properties,
      )
    );
    assertEquals(said.length, new Set(said).size, name);
  }
  // named schemas, whose name alone says nothing of null
  const orNull = [["ChatCompletionChunk", "usage"], ["CompletionChunk", "usage"]];
  orNull.push(["ChatCompletion", "prompt_logprobs"]);
  for (const [schema, property] of orNull) {
    const { anyOf = [] } = schemas[schema].properties[property];
    assert(anyOf.some(({ type }: Json) => type === "null"), `${schema}.${property} may be null`);
  }
});
