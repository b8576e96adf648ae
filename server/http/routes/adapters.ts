/** vLLM's `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`, for cores and PEFT LoRAs. */
import type { z } from "@hono/zod-openapi";
import { type LoadedCore, NoSuchPathError } from "../../../adapters/catalog/directory.ts";
import { TUNED_PREFIX } from "../../../adapters/catalog/name.ts";
import { MAX_RESIDUAL } from "../../../adapters/lotr/peft/peft_import.ts";
import { isFieldError } from "../../../src/util/errors.ts";
import type { App, ServerContext } from "../../context.ts";
import { post } from "../endpoint.ts";
import { GoneError } from "../../../adapters/store/errors.ts";
import { ApiError, invalid, refusing } from "../../errors.ts";
import { baseName, findCore, isBase } from "../../generate/model_name.ts";
import type { Principal } from "../../access/access.ts";
import { loadAdapterSchema, unloadAdapterSchema } from "../schema/admin.ts";

type LoadBody = z.output<typeof loadAdapterSchema>;

export function registerAdapters(app: App, context: ServerContext): void {
  post(app, {
    method: "post",
    path: "/v1/load_lora_adapter",
    tag: "adapters",
    summary: "Loads a PEFT LoRA as it is, or projected onto factors; or a core or LoRA file.",
    body: loadAdapterSchema,
    lenient: true,
    ok: { description: "What was loaded, as a sentence.", text: ["text/plain"] },
  }, async (c, body) => c.text(await loadAdapter(context, c.get("principal"), body)));
  post(
    app,
    {
      method: "post",
      path: "/v1/unload_lora_adapter",
      tag: "adapters",
      summary: "Removes an adapter; requests that already run end with it.",
      body: unloadAdapterSchema,
      lenient: true,
      ok: { description: "What was removed, as a sentence.", text: ["text/plain"] },
    },
    async (c, { lora_name: name }) =>
      c.text(await unloadAdapter(context, c.get("principal"), name)),
  );
}

/** Loads one and says so. @throws {ApiError} 400 and 404 for what cannot be loaded */
export async function loadAdapter(
  context: ServerContext,
  principal: Principal,
  body: LoadBody,
): Promise<string> {
  return success(body, await load(context, principal, body));
}

/** Removes one and says so. @throws {ApiError} 404 where there is none */
export async function unloadAdapter(
  { adapters }: ServerContext,
  principal: Principal,
  name: string,
): Promise<string> {
  if (name.startsWith(TUNED_PREFIX)) {
    throw invalid(
      "lora_name",
      `'${name}' is a tuned model: DELETE /v1/models/${name} removes it.`,
    );
  }
  const core = await findCore(adapters, principal, name);
  if (core === undefined) throw notFound(name);
  const version = name.includes("@") ? name.slice(name.indexOf("@")) : "";
  await refusing("lora_name", () => adapters.unload(`${core.model}${version}`));
  return `Success: LoRA adapter '${name}' removed successfully.`;
}

async function load(
  context: ServerContext,
  principal: Principal,
  body: LoadBody,
): Promise<LoadedCore> {
  const { lora_name: name, lora_path: path } = body;
  if (isBase(context.model, name)) {
    throw invalid("lora_name", `The name '${name}' is the base model's; choose another one.`);
  }
  if (body.base_model_name && !isBase(context.model, body.base_model_name)) {
    throw invalid(
      "base_model_name",
      `This server's base model is '${baseName(context.model)}', not '${body.base_model_name}'.`,
    );
  }
  const full = name.includes("/") ? name : `${principal.tenant}/${name}`;
  const taken = await findCore(context.adapters, principal, full);
  if (!body.load_inplace && taken !== undefined) {
    throw invalid(
      "lora_name",
      `The lora adapter '${name}' has already been loaded. ` +
        "If you want to load the adapter in place, set 'load_inplace' to True.",
    );
  }
  try {
    const projection = body.allow_lossy ? "lossy" : body.project ? "within" : undefined;
    return await context.adapters.loadPath(full, path, { projection });
  } catch (error) {
    throw loadError(error, body) ?? error;
  }
}

function success({ lora_name: name }: LoadBody, { core, residual }: LoadedCore): string {
  const text = `LoRA adapter '${name}' added successfully.`;
  if (residual === undefined || core.factors === undefined) return `Success: ${text}`;
  const factors = core.factors.slice(0, 12);
  const lost = `${(100 * residual).toFixed(2)}% of its energy`;
  return residual > MAX_RESIDUAL
    ? `Lost: ${lost}, which lies outside of factors ${factors}. The rest is a core: ${text}`
    : `Success: ${text} It was projected onto factors ${factors}: ${lost} lies outside of them.`;
}

function loadError(error: unknown, { lora_name: name, lora_path: path }: LoadBody) {
  if (error instanceof GoneError) {
    return invalid(
      "lora_name",
      `Loading '${name}' failed: ${error.message}. Make it with POST /v1/admin/tenants.`,
      "tenant_not_found",
    );
  }
  if (error instanceof NoSuchPathError) {
    return new ApiError(404, `Loading lora '${name}' failed: ${error.message}`, {
      param: "lora_path",
      code: "adapter_path_not_found",
    });
  }
  if (!isFieldError(error)) return undefined;
  return invalid("lora_path", `Loading lora from '${path}' failed: ${error.message}`);
}

function notFound(name: string): ApiError {
  return new ApiError(404, `The lora adapter '${name}' cannot be found.`, {
    param: "lora_name",
    code: "adapter_not_found",
  });
}
