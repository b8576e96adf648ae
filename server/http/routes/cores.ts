/**
 * `/v1/cores`: a tenant's cores, their versions, and which of them a name stands for. An administrator
 * reaches another tenant's with the header `lembas-tenant`.
 */
import { unixSeconds } from "../../../src/util/time.ts";
import { z } from "@hono/zod-openapi";
import { isLora, readAdapter } from "../../../adapters/lora/adapter_file.ts";
import { formatAdapterName } from "../../../adapters/catalog/name.ts";
import type { CoreStore, CoreVersion, FactorStore } from "../../../adapters/store/store.ts";
import { joinBytes } from "../../../src/util/bytes.ts";
import { readField } from "../../../src/util/errors.ts";
import type { App, AppContext, CoreCatalog } from "../../context.ts";
import { get, list, post } from "../endpoint.ts";
import { ApiError, invalid, refusing } from "../../errors.ts";
import {
  coreDeletedSchema,
  coreListSchema,
  coreQuerySchema,
  type CoreVersionBody,
  coreVersionSchema,
  publishCoreSchema,
  putCoreSchema,
  putLoraSchema,
} from "../schema/cores.ts";
import { readUpload } from "../upload.ts";
import { noSuch } from "./admin_context.ts";

const TAG = "cores";
const CORES = "/v1/cores";
const CORE = `${CORES}/{name}`;
const VERSION = `${CORE}/versions/{version}`;
const ofName = z.object({ name: z.string() });
const ofVersion = ofName.extend({ version: z.string() });

export interface CoreServices {
  readonly cores: CoreStore;
  /** Digest of the base that this server serves; undefined = cores of any base are taken. */
  readonly base: string | undefined;
  /** The factor sets that this server has; undefined = cores of any set are taken. */
  readonly factors: Pick<FactorStore, "list"> | undefined;
  /** Makes and checks files of LoRAs; undefined = no base is served that they could be for. */
  readonly adapters: Pick<CoreCatalog, "loraFile" | "checkLora"> | undefined;
  /** Makes the tenant that a core is kept for, in open mode (`Access.admit`). */
  readonly admit: (tenant: string) => Promise<unknown>;
}

export function registerCores(app: App, services: CoreServices): void {
  const { cores } = services;
  list(app, {
    method: "get",
    path: CORES,
    tag: TAG,
    summary: "Lists the tenant's cores by name.",
    query: coreQuerySchema,
    ok: { description: "The current version of each.", json: coreListSchema },
    scopes: ["train"],
  }, async (c, { after, limit = 100, order = "asc" }) => {
    const { tenant } = c.get("principal");
    const behind = after === undefined ? undefined : `${tenant}/${after}`;
    const page = { after: behind, limit, order };
    const { items, hasMore } = await cores.list(tenant, page);
    return c.json({ object: "list", data: items.map(coreBody), has_more: hasMore });
  });
  get(app, {
    method: "get",
    path: CORE,
    tag: TAG,
    summary: "Lists the versions of a core, newest first.",
    params: ofName,
    ok: { description: "The versions.", json: coreListSchema },
    scopes: ["train"],
  }, async (c) => {
    const data = (await versionsOf(c, services)).map(coreBody);
    return c.json({ object: "list", data, has_more: false });
  });
  registerWrites(app, services);
  registerVersion(app, services);
}

function registerWrites(app: App, services: CoreServices): void {
  const { cores } = services;
  post(app, {
    method: "post",
    path: CORE,
    tag: TAG,
    summary: "Keeps a core file as the name's next version.",
    params: ofName,
    body: putCoreSchema,
    ok: { description: "The version.", json: coreVersionSchema },
    scopes: ["train"],
  }, async (c, { cores: base64, publish = "now" }) => {
    const { tenant } = c.get("principal");
    const bytes = await readBytes(base64, services);
    const meta = { source: "upload", publish };
    await services.admit(tenant);
    return c.json(coreBody(
      await cores.put(tenant, nameOf(c), bytes, meta),
    ));
  });
  get(app, {
    method: "post",
    path: `${CORE}/lora`,
    tag: TAG,
    summary: "Keeps a PEFT LoRA as the name's next version.",
    params: ofName,
    form: putLoraSchema,
    ok: { description: "The version.", json: coreVersionSchema },
    scopes: ["train"],
  }, (c) => putLora(c, services));
  post(app, {
    method: "post",
    path: `${CORE}/publish`,
    tag: TAG,
    summary: "Makes a version what the name stands for.",
    params: ofName,
    body: publishCoreSchema,
    ok: { description: "The version.", json: coreVersionSchema },
    scopes: ["train"],
  }, async (c, { version }) => {
    const [{ tenant, name }] = await versionsOf(c, services);
    return c.json(
      coreBody(await cores.publish(tenant, name, version)),
    );
  });
  get(app, {
    method: "post",
    path: `${CORE}/rollback`,
    tag: TAG,
    summary: "Makes the version before the current one what the name stands for.",
    params: ofName,
    ok: { description: "The version.", json: coreVersionSchema },
    errors: [400],
    scopes: ["train"],
  }, async (c) => {
    const [{ tenant, name }] = await versionsOf(c, services);
    return c.json(coreBody(await cores.rollback(tenant, name)));
  });
  get(app, {
    method: "delete",
    path: CORE,
    tag: TAG,
    summary: "Removes a core with all versions; requests that already run end with it.",
    params: ofName,
    ok: { description: "How many versions were removed.", json: coreDeletedSchema },
    scopes: ["train"],
  }, async (c) => {
    const [{ tenant, name }] = await versionsOf(c, services);
    const deleted = await cores.remove(tenant, name, undefined);
    return c.json({ object: "core", name, deleted });
  });
}

function registerVersion(app: App, services: CoreServices): void {
  const { cores } = services;
  get(app, {
    method: "get",
    path: `${VERSION}/content`,
    tag: TAG,
    summary: "The core file.",
    params: ofVersion,
    ok: { description: "The file.", text: ["application/octet-stream"] },
    errors: [409],
    scopes: ["train"],
  }, async (c) => {
    const { digest, state } = await versionOf(c, services);
    if (state === "quarantined") {
      throw new ApiError(409, "This version is quarantined: its content is not what was stored.", {
        code: "quarantined",
      });
    }
    const bytes = await cores.bytes(digest);
    return new Response(bytes, { headers: { "content-type": "application/octet-stream" } });
  });
  get(app, {
    method: "delete",
    path: VERSION,
    tag: TAG,
    summary: "Removes one version; if it was the current one, the name stands for the one before.",
    params: ofVersion,
    ok: { description: "How many versions were removed.", json: coreDeletedSchema },
    scopes: ["train"],
  }, async (c) => {
    const { tenant, name, version } = await versionOf(c, services);
    const deleted = await cores.remove(tenant, name, version);
    return c.json({ object: "core", name, deleted });
  });
}

/** Larger ones are loaded by their path. */
const MAX_UPLOAD_BYTES = 128 * 2 ** 20;

async function putLora(c: AppContext, { cores, adapters, admit }: CoreServices): Promise<Response> {
  const { tenant } = c.get("principal");
  if (adapters === undefined) {
    throw invalid("file", "Cannot take a PEFT LoRA: no base is served here, ask a running server.");
  }
  const field = { name: "file", limit: MAX_UPLOAD_BYTES };
  const { file: { bytes: weights }, fields } = await readUpload(c.req.raw, field, gathered);
  const { publish = "now", config = "" } = fields;
  if (publish !== "now" && publish !== "later") {
    throw invalid("publish", `Invalid 'publish': it is 'now' or 'later', not '${publish}'.`);
  }
  const bytes = readField("file", () => adapters.loraFile({ config: parsed(config), weights }));
  await admit(tenant);
  return c.json(coreBody(await cores.put(tenant, nameOf(c), bytes, { source: "upload", publish })));
}

async function gathered(content: AsyncIterable<Uint8Array>) {
  const bytes = joinBytes(await Array.fromAsync(content));
  return { bytes, [Symbol.asyncDispose]: () => Promise.resolve() };
}

/** @throws {ApiError} 400 */
function parsed(config: string): unknown {
  try {
    return JSON.parse(config);
  } catch {
    throw invalid(
      "config",
      "Invalid 'config': it is the text of adapter_config.json, which is JSON.",
    );
  }
}

/** A version as the API shows it. */
export function coreBody(core: CoreVersion): CoreVersionBody {
  return {
    object: "core.version",
    id: formatAdapterName(core.tenant, core.name, core.version),
    tenant: core.tenant,
    name: core.name,
    version: core.version,
    digest: core.digest,
    base: core.base,
    kind: core.ranks === undefined ? "core" : "lora",
    factors: core.factors ?? null,
    rank: core.rank,
    bytes: core.bytes,
    created_at: unixSeconds(core.createdAt),
    source: core.source,
    state: core.state,
    current: core.current,
  };
}

function nameOf(c: AppContext): string {
  return c.req.param("name") ?? "";
}

/** At least one. @throws {ApiError} 404 */
async function versionsOf(
  c: AppContext,
  { cores }: CoreServices,
): Promise<readonly [CoreVersion, ...CoreVersion[]]> {
  const [first, ...others] = await cores.versions(c.get("principal").tenant, nameOf(c));
  if (first === undefined) throw noSuch("core", nameOf(c));
  return [first, ...others];
}

async function versionOf(c: AppContext, services: CoreServices): Promise<CoreVersion> {
  const wanted = c.req.param("version") ?? "";
  const found = (await versionsOf(c, services)).find(({ version }) => String(version) === wanted);
  if (found === undefined) throw noSuch("core version", wanted);
  return found;
}

/** @throws {ApiError} 400 for what is no core of this base and of a factor set that is known */
async function readBytes(
  base64: string,
  { base, factors, adapters }: CoreServices,
): Promise<Uint8Array<ArrayBuffer>> {
  const [bytes, content] = decodeAdapter(base64, base);
  if (isLora(content)) {
    await refusing("cores", () => Promise.resolve(adapters?.checkLora(content)));
    return bytes;
  }
  const wanted = content.factors;
  const known = (await factors?.list())?.map(({ digest }) => digest);
  if (known === undefined || known.includes(wanted)) return bytes;
  throw unknownFactors(wanted, known);
}

function unknownFactors(wanted: string, known: readonly string[]): ApiError {
  const here = known.length === 0 ? "none is known here" : `known here: ${shortList(known)}`;
  return invalid(
    "cores",
    `Invalid 'cores': it names the factor set ${wanted.slice(0, 12)}, which this server does not ` +
      `have; ${here}. An administrator adds it with deno task admin factors put FILE (POST ` +
      "/v1/admin/factors), or train the core for a set that is known.",
    "unknown_factors",
  );
}

function decodeAdapter(base64: string, base: string | undefined) {
  try {
    const bytes = Uint8Array.fromBase64(base64);
    const content = readAdapter(bytes);
    if (base === undefined || content.base === base) return [bytes, content] as const;
    throw new TypeError(`its base is ${content.base}, served is ${base}`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalid("cores", `Invalid 'cores': ${reason}.`, "invalid_core");
  }
}

/** Most factor sets that an error names. */
const MOST_NAMED = 8;

/** The newest digests, shortened. @param digests oldest first */
function shortList(digests: readonly string[]): string {
  const named = digests.slice(-MOST_NAMED).map((digest) => digest.slice(0, 12)).join(", ");
  const more = digests.length - MOST_NAMED;
  return more > 0 ? `${named} and ${more} older ones` : named;
}
