/**
 * A real Chromium for tests: found on this machine (Debian's `chromium-headless-shell` or `chromium`,
 * or another one), driven by puppeteer. It owns its start and its end; it knows no page.
 */
import puppeteer, { type Browser } from "puppeteer-core";

const NAMES = [
  "chromium-headless-shell",
  "chromium",
  "chromium-browser",
  "google-chrome-stable",
  "google-chrome",
];

/** The first browser in the search path; `LEMBAS_TEST_CHROMIUM` names another one. */
export async function findChromium(): Promise<string | undefined> {
  const named = Deno.env.get("LEMBAS_TEST_CHROMIUM");
  if (named) return named;
  for (const folder of (Deno.env.get("PATH") ?? "").split(":")) {
    for (const name of NAMES) {
      const found = await Deno.stat(`${folder}/${name}`).catch(() => undefined);
      if (found?.isFile) return `${folder}/${name}`;
    }
  }
  return undefined;
}

/** @throws {Error} saying what to install, where there is none */
export async function openBrowser(): Promise<Browser> {
  const executablePath = await findChromium();
  if (executablePath === undefined) {
    throw new Error("Cannot find Chromium: install Debian's package chromium-headless-shell");
  }
  return await puppeteer.launch({
    executablePath,
    headless: true,
    // a container's root has no sandbox; pages here are our own
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
}
