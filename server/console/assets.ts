/**
 * The console's style sheets, script and icon, served under names that change with their content,
 * so that browsers may cache them for good.
 */
import { createHash } from "node:crypto";
import type { Hono } from "hono";
import type { AppEnv } from "../context.ts";

/** Where pages find them. */
export interface AssetPaths {
  /** In their order. */
  readonly styles: readonly string[];
  readonly script: string;
  readonly icon: string;
}

const STYLES = ["frame.css", "figures.css", "forms.css", "phones.css"];

/** Registers them; reads each file once. */
export function registerAssets(app: Hono<AppEnv>): AssetPaths {
  const serve = (file: string, type: string): string => {
    const content = Deno.readFileSync(new URL(`assets/${file}`, import.meta.url));
    const digest = createHash("sha256").update(content).digest("hex").slice(0, 12);
    const path = `/assets/${digest}/${file}`;
    const caching = "public, max-age=31536000, immutable";
    const headers = { "content-type": type, "cache-control": caching };
    app.get(path, () => new Response(content, { headers }));
    return `/console${path}`;
  };
  return {
    styles: STYLES.map((file) => serve(file, "text/css; charset=utf-8")),
    script: serve("console.js", "text/javascript; charset=utf-8"),
    icon: serve("icon.svg", "image/svg+xml"),
  };
}
