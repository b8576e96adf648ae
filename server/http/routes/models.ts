/** `GET /v1/models` and `/v1/models/{model}`: the base and its adapters, as vLLM lists them. */
import { z } from "@hono/zod-openapi";
import { nameFor } from "../../../adapters/catalog/name.ts";
import type { ServedCore } from "../../../src/engine/request/request.ts";
import type { App, AppContext, ServedModel, ServerContext } from "../../context.ts";
import { ANY_SCOPE, get } from "../endpoint.ts";
import { invalid, modelNotFound } from "../../errors.ts";
import type { FineTuning } from "../../jobs/fine_tuning.ts";
import { baseName, findCore, isBase } from "../../generate/model_name.ts";
import { checkScope, isAdministrator, type Principal } from "../../access/access.ts";
import { samplingBody } from "../../generate/plan.ts";
import {
  type ModelBody,
  modelDeletedSchema,
  modelListSchema,
  modelSchema,
} from "../schema/admin.ts";

export function registerModels(app: App, context: ServerContext): void {
  get(app, {
    method: "get",
    path: "/v1/models",
    tag: "models",
    summary: "Lists the base model and the tenant's adapters.",
    ok: { description: "The models.", json: modelListSchema },
    scopes: ANY_SCOPE,
  }, async (c) => {
    const principal = c.get("principal");
    const whose = isAdministrator(principal) ? undefined : principal.tenant;
    const visible = await context.adapters.list(whose);
    const adapters = await Promise.all(visible.map(async (core) => {
      const alone = visible.filter(({ model }) => model === core.model).length === 1;
      const current = alone || (await context.adapters.find(core.model))?.name === core.name;
      return coreBody(context, core, current ? core.model : core.name, principal);
    }));
    const names = context.model.served ?? [context.model.id];
    const bases = names.map((name) => baseBody(context, name));
    return c.json({ object: "list", data: [...bases, ...adapters] });
  });
  get(app, {
    method: "get",
    path: "/v1/models/{model}",
    tag: "models",
    summary: "Describes one model; an adapter's slash may be written plainly or as %2F.",
    params: z.object({ model: z.string() }),
    ok: { description: "The model.", json: modelSchema },
    scopes: ANY_SCOPE,
  }, (c) => one(context, c, c.req.param("model") ?? ""));
  if (context.tuning !== undefined) registerDelete(app, context, context.tuning);
  app.get("/v1/models/:tenant/:name", (c) => {
    checkScope(c.get("principal"), ANY_SCOPE);
    return one(context, c, `${c.req.param("tenant")}/${c.req.param("name")}`);
  });
}

function registerDelete(app: App, context: ServerContext, { tuned }: FineTuning): void {
  get(app, {
    method: "delete",
    path: "/v1/models/{model}",
    tag: "models",
    summary: "Deletes a tuned model (`ft:…`); requests that already run end with it.",
    params: z.object({ model: z.string() }),
    ok: { description: "That it is deleted.", json: modelDeletedSchema },
    errors: [400],
    scopes: ["train"],
  }, async (c) => {
    const name = c.req.param("model") ?? "";
    const core = await findCore(context.adapters, c.get("principal"), name);
    if (core === undefined && !isBase(context.model, name)) throw modelNotFound(name);
    if (await tuned.remove(name)) return c.json({ id: name, object: "model", deleted: true });
    throw invalid("model", `Only tuned models can be deleted, and '${name}' is none.`);
  });
}

async function one(context: ServerContext, c: AppContext, name: string): Promise<Response> {
  if (isBase(context.model, name)) return c.json(baseBody(context, name));
  const core = await findCore(context.adapters, c.get("principal"), name);
  if (core === undefined) throw modelNotFound(name);
  const named = name.includes("@") ? core.name : core.model;
  return c.json(coreBody(context, core, named, c.get("principal")));
}

function baseBody({ model, engine }: ServerContext, id: string): ModelBody {
  return {
    id,
    object: "model",
    created: model.created,
    owned_by: "lembas",
    root: model.root,
    parent: null,
    max_model_len: engine.maxContext,
    precision: precisionOf(model),
    sampling_defaults: samplingBody(model.sampling),
  };
}

/** @param name `tenant/name`, with the version where it is not the current one */
function coreBody(
  { model, engine }: ServerContext,
  core: ServedCore,
  name: string,
  { tenant }: Principal,
): ModelBody {
  return {
    id: nameFor(tenant, name),
    full_name: core.name,
    object: "model",
    created: core.created,
    owned_by: core.tenant,
    root: core.source,
    parent: baseName(model),
    max_model_len: engine.maxContext,
    precision: precisionOf(model),
    sampling_defaults: samplingBody(model.sampling),
  };
}

function precisionOf({ dtype, weightTypes, quality }: ServedModel): ModelBody["precision"] {
  return {
    dtype,
    weight_types: [...weightTypes],
    ...(quality === undefined ? {} : { perplexity_percent: quality.percent }),
  };
}
