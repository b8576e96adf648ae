/** The first page and the API's pages, in a real browser: they draw, and load nothing from elsewhere. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../../server/http/app.ts";
import { listen } from "../../../server/serve.ts";
import { onChromium } from "../../programs/chromium.ts";
import { openBrowser } from "../console/browser.ts";
import { fakeContext } from "../fake_context.ts";

Deno.test("the first page says what runs here, and how to begin", async () => {
  const app = createApp(fakeContext());
  const page = await app.request("http://localhost:8000/");
  assertEquals(page.headers.get("content-type"), "text/html; charset=UTF-8");
  const text = await page.text();
  for (
    const part of [
      "tiny in int8 on cpu",
      'href="/docs"',
      "curl http://localhost:8000/v1/chat/completions",
    ]
  ) {
    assertStringIncludes(text, part);
  }
  assert(!text.includes('href="/console"'), "without a store there is no console");
});

Deno.test("with keys the first page names no model, and the docs are open", async () => {
  const app = createApp(fakeContext({ apiKey: "s3cret" }));
  const text = await (await app.request("/")).text();
  assert(!text.includes("tiny"), text);
  assertStringIncludes(text, "authorization: Bearer $KEY");
  for (const path of ["/docs", "/docs/swagger-ui.js", "/docs/swagger-ui.css", "/docs/start.js"]) {
    const response = await app.request(path);
    assertEquals(response.status, 200, path);
    await response.body?.cancel();
  }
  assertEquals((await app.request("/docs/nothing.js")).status, 404);
});

Deno.test({
  ...onChromium("the docs draw every endpoint from the server's own files alone"),
  fn: async () => {
    const context = fakeContext();
    const { fetch } = createApp(context);
    const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
    try {
      await using opened = await openBrowser();
      const page = await opened.browser.newPage();
      const asked: string[] = [];
      const complaints: string[] = [];
      page.on("request", (request) => asked.push(request.url()));
      page.on("pageerror", (error) => complaints.push(String(error)));
      page.on("console", (line) => {
        if (line.type() === "error") complaints.push(line.text());
      });
      await page.goto(`${server.url}/docs`);
      await page.waitForSelector(".opblock-summary-path");
      const paths = await page.$$eval(
        ".opblock-summary-path",
        (nodes) => nodes.map((node) => node.getAttribute("data-path")),
      );
      for (const path of ["/v1/chat/completions", "/metrics"]) assert(paths.includes(path), path);
      await page.goto(`${server.url}/`);
      assertEquals(await page.$eval("h1", (node) => node.textContent), "lembas 0.0.0");
      const elsewhere = asked.filter((url) =>
        !url.startsWith(server.url) && !url.startsWith("data:")
      );
      assertEquals([elsewhere, complaints], [[], []]);
    } finally {
      await server.stop(1, () => Promise.resolve());
    }
  },
});
