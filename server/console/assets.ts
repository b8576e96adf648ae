/**
 * The console's style sheet, script and icon, served from this process under names that change with
 * their content. It owns their addresses and their caching.
 */
import { createHash } from "node:crypto";
import type { Hono } from "hono";
import type { AppEnv } from "../endpoint.ts";

/** Where pages find them. */
export interface AssetPaths {
  readonly style: string;
  readonly script: string;
  readonly icon: string;
}

const FILES = {
  style: ["style.css", "text/css; charset=utf-8"],
  script: ["console.js", "text/javascript; charset=utf-8"],
  icon: ["icon.svg", "image/svg+xml"],
} as const;

/** Registers them; reads each file once. */
export function registerAssets(app: Hono<AppEnv>): AssetPaths {
  const paths: Record<string, string> = {};
  for (const [name, [file, type]] of Object.entries(FILES)) {
    const content = Deno.readFileSync(new URL(`assets/${file}`, import.meta.url));
    const digest = createHash("sha256").update(content).digest("hex").slice(0, 12);
    const path = `/assets/${digest}/${file}`;
    app.get(path, () =>
      new Response(content, {
        headers: { "content-type": type, "cache-control": "public, max-age=31536000, immutable" },
      }));
    paths[name] = `/console${path}`;
  }
  const { style = "", script = "", icon = "" } = paths;
  return { style, script, icon };
}
