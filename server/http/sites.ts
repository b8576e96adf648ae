/**
 * Which web pages may use this server. A browser sends a page's requests to any address, so a page
 * of another site is refused by what the browser says of it: `Host` (a foreign name that was
 * pointed at this machine), `Origin` and `Sec-Fetch-Site`. A client that sends none of them is no
 * browser. Hono's `csrf` looks at forms alone and is content with either header; here both must be
 * good.
 */
import type { MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import { secureHeaders } from "hono/secure-headers";
import type { AppContext, AppEnv } from "../context.ts";
import { ApiError } from "../errors.ts";
import { IGNORED_HEADER } from "./unknown_arguments.ts";

export interface SiteOptions {
  /**
   * In open mode only the `Host` header shows that a page came from a foreign name that was
   * pointed here.
   */
  readonly mode: "open" | "keys";
  /** Host names beside loopback's, lower case, without a port. */
  readonly allowedHosts: readonly string[];
  /** Origins whose pages may use the API; `*` = any. */
  readonly corsOrigins: readonly string[];
}

type Middleware = MiddlewareHandler<AppEnv>;

/** How long a browser remembers a preflight. */
const PREFLIGHT_SECONDS = 600;

/** Headers that a page's script may read, beside type and length. */
const EXPOSED = [
  ...["x-request-id", "request-id", "retry-after", IGNORED_HEADER],
  ...["limit", "remaining", "reset"].flatMap((what) =>
    ["requests", "tokens"].map((of) => `x-ratelimit-${what}-${of}`)
  ),
];

/** Middleware of the whole application: security headers, refusals of foreign sites, CORS. */
export function siteGuards(options: SiteOptions): readonly Middleware[] {
  const guards = [answersAlone(), refuseForeign(options)];
  return options.corsOrigins.length === 0 ? guards : [...guards, corsFor(options.corsOrigins)];
}

/**
 * Security headers: nothing from other sites, nothing inline, in nobody's frame. HSTS is for the
 * proxy that has TLS.
 */
function answersAlone(): Middleware {
  const strict = headersWith([], []);
  // what Swagger UI draws with
  const docs = headersWith(["'unsafe-inline'"], ["data:"]);
  return (c, next) => (c.req.path === "/docs" ? docs : strict)(c, next);
}

function headersWith(styles: readonly string[], images: readonly string[]): Middleware {
  const own = ["'self'"];
  return secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      ...{ styleSrc: [...own, ...styles], imgSrc: [...own, ...images] },
      ...{ scriptSrc: own, connectSrc: own, formAction: own },
      baseUri: ["'none'"],
      frameAncestors: ["'none'"],
    },
    // forms of the console say where they come from
    referrerPolicy: "same-origin",
    xFrameOptions: "DENY",
    strictTransportSecurity: false,
    ...{ originAgentCluster: false, xDnsPrefetchControl: false, xDownloadOptions: false },
    ...{ xPermittedCrossDomainPolicies: false, xXssProtection: false },
  });
}

/** The console is no API: its pages are read at their own address alone. */
function corsFor(origins: readonly string[]): Middleware {
  const answer = cors({
    origin: (origin) => isListed(origin, origins) ? origin : null,
    allowMethods: ["GET", "POST", "DELETE"],
    exposeHeaders: EXPOSED,
    maxAge: PREFLIGHT_SECONDS,
  });
  return (c, next) => {
    const preflight = c.req.method === "OPTIONS";
    const listed = isListed(c.req.header("origin") ?? "", origins);
    return isConsole(c.req.path) || preflight && !listed ? next() : answer(c, next);
  };
}

function isConsole(path: string): boolean {
  return path === "/console" || path.startsWith("/console/");
}

/** @throws {ApiError} 403 */
function refuseForeign(options: SiteOptions): Middleware {
  const { mode, allowedHosts, corsOrigins } = options;
  return (c, next) => {
    const host = c.req.header("host");
    if (mode === "open" && host !== undefined && !isOwnHost(host, allowedHosts)) {
      throw foreignHost(host);
    }
    if (!SAFE_METHODS.has(c.req.method)) refuseForeignSite(c, host, corsOrigins);
    return next();
  };
}

const SAFE_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** What a browser says of a page that is not elsewhere: this server's own, or the address bar. */
const OWN_SITES: ReadonlySet<string> = new Set(["same-origin", "none"]);

function refuseForeignSite(c: AppContext, host: string | undefined, origins: readonly string[]) {
  const origin = c.req.header("origin");
  if (origin !== undefined && isListed(origin, origins)) return;
  if (origin !== undefined && !isSameHost(origin, host)) throw foreignSite(`Origin: ${origin}`);
  const site = c.req.header("sec-fetch-site");
  if (site !== undefined && !OWN_SITES.has(site)) throw foreignSite(`Sec-Fetch-Site: ${site}`);
}

function isListed(origin: string, origins: readonly string[]): boolean {
  return origin !== "" && (origins.includes(origin) || origins.includes("*"));
}

/** `Host` has no scheme, so a proxy that speaks TLS changes nothing. */
function isSameHost(origin: string, host: string | undefined): boolean {
  const parsed = URL.parse(origin);
  return parsed !== null && host !== undefined && parsed.host !== "" &&
    parsed.host === URL.parse(`${parsed.protocol}//${host}`)?.host;
}

/** Whether a `Host` header names this machine's loopback, or what was allowed. */
function isOwnHost(host: string, allowed: readonly string[]): boolean {
  const name = hostName(host);
  return name !== undefined && (isLoopback(name) || allowed.includes(name));
}

/** `LOCALHOST:8000` → `localhost`; undefined for what is no host. */
function hostName(host: string): string | undefined {
  if (!/^(\[[\da-f:.]+\]|[^\s:/?#@\\,[\]]+)(:\d*)?$/i.test(host)) return undefined;
  return URL.parse(`http://${host}`)?.hostname;
}

/** Whether a URL's host name is one of this machine's to itself. */
export function isLoopback(name: string): boolean {
  return name === "localhost" || name === "[::1]" || /^127(\.\d{1,3}){3}$/.test(name);
}

function foreignHost(host: string): ApiError {
  const shown = host.slice(0, 80);
  const name = hostName(host) ?? "NAME";
  return new ApiError(
    403,
    `The host '${shown}' is not this server's: without keys it answers to localhost, 127.0.0.1 and ` +
      `[::1] alone, so that no web page elsewhere can use it. Start it with --allowed-hosts ` +
      `${name.slice(0, 80)}, or with --open=false for API keys.`,
    { code: "foreign_host" },
  );
}

function foreignSite(header: string): ApiError {
  return new ApiError(
    403,
    `Web pages of other sites may change nothing here (${header.slice(0, 120)}). To let one in, ` +
      "start the server with --cors-origin and the page's origin; a proxy in front of the server " +
      "must pass on the Host that it was asked for.",
    { code: "foreign_site" },
  );
}
