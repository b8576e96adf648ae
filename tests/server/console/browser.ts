/** A real Chromium for tests, driven by puppeteer. It owns its start and its end. */
import puppeteer, { type Browser } from "puppeteer-core";
import { openChromium } from "../../programs/chromium.ts";

/** A running browser; at its end its program goes, too. */
export interface OpenBrowser extends AsyncDisposable {
  readonly browser: Browser;
}

/** @throws {Deno.errors.NotFound} where there is no Chromium */
export async function openBrowser(): Promise<OpenBrowser> {
  await using stack = new AsyncDisposableStack();
  const { path, env } = stack.use(await openChromium());
  const browser = await puppeteer.launch({
    executablePath: path,
    env: { ...Deno.env.toObject(), ...env },
    headless: true,
    // a container's root has no sandbox; pages here are our own
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  stack.defer(() => browser.close());
  const kept = stack.move();
  return { browser, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}
