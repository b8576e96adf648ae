/**
 * `/v1/admin/factors`: factor sets that are kept for all tenants. A set comes in as it is sent, is read
 * once it is whole, and is known to every server on the store from the answer on.
 */
import { z } from "@hono/zod-openapi";
import { MAX_FACTORS_BYTES, readFactors } from "../../../adapters/lotr/format.ts";
import { GoneError } from "../../../adapters/store/errors.ts";
import type { FactorRecord } from "../../../adapters/store/store.ts";
import { unixSeconds } from "../../../src/util/time.ts";
import type { App } from "../../context.ts";
import { get } from "../endpoint.ts";
import { invalid } from "../../errors.ts";
import {
  type FactorSetBody,
  factorSetDeletedSchema,
  factorSetFormSchema,
  factorSetListSchema,
  factorSetSchema,
} from "../schema/admin_usage.ts";
import { readUpload } from "../upload.ts";
import { ADMIN_TAG, type AdminServices, noSuch } from "./admin_context.ts";

const FACTORS = "/v1/admin/factors";

export function registerAdminFactors(app: App, { store, base }: AdminServices): void {
  const { factors } = store;
  get(app, {
    method: "get",
    path: FACTORS,
    tag: ADMIN_TAG,
    summary: "Lists the factor sets that are kept, oldest first.",
    ok: { description: "The factor sets.", json: factorSetListSchema },
  }, async (c) => c.json({ object: "list", data: (await factors.list()).map(factorsBody) }));
  get(app, {
    method: "post",
    path: FACTORS,
    tag: ADMIN_TAG,
    summary: "Keeps a factor file: cores that name the set can be stored and served from now on.",
    form: factorSetFormSchema,
    ok: { description: "The factor set.", json: factorSetSchema },
  }, async (c) => {
    const field = { name: "file", limit: MAX_FACTORS_BYTES };
    const { file } = await readUpload(c.req.raw, field, (content) => factors.stage(content));
    await using staged = file;
    const digest = digestOf(await staged.read(), base);
    return c.json(factorsBody(await staged.commit(digest)));
  });
  get(app, {
    method: "delete",
    path: `${FACTORS}/{digest}`,
    tag: ADMIN_TAG,
    summary: "Removes a factor set that no core and no job under way needs.",
    params: z.object({ digest: z.string() }),
    ok: { description: "That it is removed.", json: factorSetDeletedSchema },
    errors: [409],
  }, async (c) => {
    const digest = c.req.param("digest") ?? "";
    try {
      await factors.remove(digest);
    } catch (error) {
      throw error instanceof GoneError ? noSuch("factor set", digest) : error;
    }
    return c.json({ object: "factor_set", digest, deleted: true });
  });
}

/** @throws {ApiError} 400 for what is no factor set of this base */
function digestOf(bytes: Uint8Array, base: string | undefined): string {
  try {
    const set = readFactors(bytes);
    if (base === undefined || set.base === base) return set.digest;
    throw new TypeError(`its base is ${set.base}, served is ${base}`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalid("file", `Invalid 'file': ${reason}.`, "invalid_factors");
  }
}

function factorsBody({ digest, bytes, createdAt }: FactorRecord): FactorSetBody {
  return { object: "factor_set", digest, bytes, created_at: unixSeconds(createdAt) };
}
