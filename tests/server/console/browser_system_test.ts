/**
 * The console in a real Chromium: signing in, live figures, changes by keyboard, streamed answers; and
 * how it looks in light, in dark and on a phone. Pictures go to the directory that
 * `LEMBAS_SCREENSHOTS` names, or to one that is removed at the end.
 */
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import type { Browser, Page } from "puppeteer-core";
import { listen } from "../../../server/serve.ts";
import { onChromium } from "../../programs/chromium.ts";
import { openKeyedApp } from "../keyed_app.ts";
import { openBrowser } from "./browser.ts";
import { addCores, addTraffic, addUsage, trainJob } from "./furnish.ts";
import {
  areAnswered,
  faintTexts,
  focused,
  isMoving,
  overflow,
  reachable,
  textsOf,
} from "./inspect.mjs";

const DESK = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 740, isMobile: true, hasTouch: true };
/** WCAG 2.2, AA, for text of any size. */
const LEAST_CONTRAST = 4.5;

/** A page whose faults are noted: errors, refusals by its policy, requests to anywhere else. */
async function open(browser: Browser, url: string): Promise<{ page: Page; faults: string[] }> {
  const faults: string[] = [];
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(`error: ${error}`));
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    // the browser draws its own controls from data
    const inside = [`${url}/`, "data:"].some((start) => request.url().startsWith(start));
    if (!inside) faults.push(`left the server: ${request.url()}`);
  });
  await page.setViewport(DESK);
  return { page, faults };
}

async function signIn(page: Page, url: string, key: string): Promise<void> {
  await page.goto(`${url}/console`);
  assertEquals(new URL(page.url()).pathname, "/console/sign-in");
  // the field takes the focus by itself, once the page is drawn
  await page.waitForSelector("#field-key:focus");
  await page.keyboard.type(key);
  await leaving(page, () => page.keyboard.press("Enter"));
  assertEquals(new URL(page.url()).pathname, "/console");
}

/** Does what leads to another page, and waits for it. */
async function leaving(page: Page, act: () => Promise<unknown>): Promise<void> {
  await Promise.all([page.waitForNavigation(), act()]);
}

async function live(page: Page, url: string, traffic: () => Promise<void>): Promise<void> {
  await page.goto(`${url}/console`);
  await traffic();
  await page.waitForFunction(isMoving, { timeout: 20_000 });
}

async function publish(page: Page, url: string): Promise<void> {
  await page.goto(`${url}/console/cores/acme/shelf`);
  await focus(page, "Publish version 1");
  await leaving(page, () => page.keyboard.press("Enter"));
  assertStringIncludes(await textOf(page, "[role=status]"), "The version is published");
  assertStringIncludes(await textOf(page, ".lead"), "stands for version 1");
  await focus(page, "Delete version 2");
  const asked = new Promise<string>((resolve) =>
    page.once("dialog", (dialog) => {
      resolve(dialog.message());
      void dialog.dismiss();
    })
  );
  await page.keyboard.press("Enter");
  assertMatch(await asked, /Delete acme\/shelf@2\?/);
  assertStringIncludes(await textOf(page, "tbody"), "kept");
}

/** Goes on with Tab until something of this name has the focus. */
async function focus(page: Page, name: string): Promise<void> {
  const most = await page.evaluate(reachable);
  for (let i = 0; i <= most; i++) {
    if ((await page.evaluate(focused))?.name === name) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`Tab does not reach '${name}'`);
}

async function textOf(page: Page, selector: string): Promise<string> {
  return (await page.evaluate(textsOf, selector))[0] ?? "";
}

async function playground(page: Page, url: string): Promise<void> {
  await page.goto(`${url}/console/playground?right=acme/shelf`);
  await page.type("textarea", "What is a lichen?");
  await page.keyboard.down("Control");
  await page.keyboard.press("Enter");
  await page.keyboard.up("Control");
  await page.waitForFunction(areAnswered, { timeout: 20_000 });
  const texts = await page.evaluate(textsOf, "output");
  assertEquals(texts.length, 2);
  for (const text of texts) assertGreater(text.length, 0);
  assertEquals(new URL(page.url()).search, "?right=acme/shelf", "it streams into the page");
}

/** Tab goes through everything, in the open; the first one leads past the navigation. */
async function keyboard(page: Page, url: string, path: string): Promise<void> {
  await page.goto(`${url}${path}`);
  const hidden: string[] = [];
  const count = await page.evaluate(reachable);
  for (let i = 0; i < count; i++) {
    await page.keyboard.press("Tab");
    const has = await page.evaluate(focused);
    if (i === 0) assertEquals(has?.name, "Skip to content");
    // between the last and the first element the browser itself has it
    if (has?.outlined === false) hidden.push(has.name);
  }
  assertEquals(hidden, [], path);
}

interface Looks {
  readonly folder: string;
  readonly url: string;
  readonly paths: readonly string[];
}

/** Every page in light, in dark and on a phone: readable, and no wider than the window. */
async function look(page: Page, { folder, url, paths }: Looks): Promise<void> {
  for (const scheme of ["light", "dark"] as const) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    for (const [size, viewport] of [["desk", DESK], ["phone", PHONE]] as const) {
      await page.setViewport(viewport);
      for (const path of paths) {
        await page.goto(`${url}${path}`);
        const name = `${
          path.slice(1).replaceAll(/[/?=]/g, "-").replace(/ftjob.*/, "one")
        }-${scheme}-${size}`;
        await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
        assertEquals(await page.evaluate(faintTexts, LEAST_CONTRAST), [], name);
        assert(await page.evaluate(overflow) <= 0, `${name} is wider than its window`);
      }
    }
  }
  await page.setViewport(DESK);
}

Deno.test({
  ...onChromium("the console in Chromium"),
  // the browser is another process with timers of its own
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    await using keyed = await openKeyedApp();
    await addCores(keyed);
    await addUsage(keyed);
    const job = await trainJob(keyed);
    const { fetch } = keyed.app;
    const server = await listen({ host: "127.0.0.1", port: 0, fetch }, keyed.context.lifecycle);
    const kept = Deno.env.get("LEMBAS_SCREENSHOTS");
    const folder = kept ?? await Deno.makeTempDir({ prefix: "lembas-console-" });
    await using opened = await openBrowser();
    const { browser } = opened;
    const { url } = server;
    try {
      const { page, faults } = await open(browser, url);
      await t.step("a key and Enter sign in", () => signIn(page, url, keyed.keys.admin));
      await t.step(
        "live figures move while requests run",
        () => live(page, url, () => addTraffic(keyed)),
      );
      await t.step(
        "a version is published by keyboard, and deleting asks first",
        () => publish(page, url),
      );
      await t.step("the playground streams two answers", () => playground(page, url));
      await t.step("Tab reaches everything, and the focus shows", async () => {
        for (const path of ["", "/tenants/acme", "/cores/acme/shelf", "/playground"]) {
          await keyboard(page, url, `/console${path}`);
        }
      });
      const pages = ["", "/tenants", "/tenants/acme", "/cores", "/cores/acme/shelf", "/jobs"];
      const paths = [...pages, `/jobs/acme/${job}`, "/playground"].map((path) => `/console${path}`);
      await t.step("pages are readable in light, in dark and on a phone", async () => {
        await addTraffic(keyed);
        await look(page, { folder, url, paths });
      });
      await t.step(
        "nothing failed, and nothing came from elsewhere",
        () => assertEquals(faults, []),
      );
    } finally {
      await server.stop(1, () => Promise.resolve());
      if (kept === undefined) await Deno.remove(folder, { recursive: true });
    }
  },
});
