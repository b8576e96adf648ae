/**
 * An adapter as LoRAX's clients name it, `adapter_id` beside `adapter_source`. A "local" one is a name,
 * or a path below the adapters' directory; one of the "hub" its id there. What is not here yet only
 * administrators may have loaded, under their tenant.
 */
import { HUB_PREFIX } from "../../adapters/catalog/hub.ts";
import { isAdministrator, type Principal } from "../access/access.ts";
import type { ServerContext } from "../context.ts";
import { modelNotFound, refusing } from "../errors.ts";
import type { AdapterIdFields } from "../http/schema/common.ts";
import { baseName, findCore, isBase } from "./model_name.ts";

/** Longest name of an adapter within its tenant. */
const MOST_NAME = 64;

/** What LoRAX's clients call the base. */
const BASE_ID = "__base_model__";

/**
 * The model that a request names, by either way.
 * @throws {ApiError} 404 for an adapter that is not here and not to be loaded; 400 for one that does
 *   not fit
 */
export async function modelAsked(
  context: ServerContext,
  principal: Principal,
  { model, adapter_id: id, adapter_source: source }: AdapterIdFields & {
    readonly model?: string | null | undefined;
  },
): Promise<string> {
  if (!id) return model ?? baseName(context.model);
  if (id === BASE_ID) return baseName(context.model);
  if (isBase(context.model, id)) return id;
  if (source !== "hub" && await findCore(context.adapters, principal, id) !== undefined) return id;
  const name = `${principal.tenant}/${nameOf(id)}`;
  const path = source === "hub" ? `${HUB_PREFIX}${id}` : id;
  const known = await findCore(context.adapters, principal, name);
  if (known !== undefined && isFrom(known.source, path)) return name;
  if (!source || !isAdministrator(principal)) throw modelNotFound(id);
  const { core } = await refusing("adapter_id", () => context.adapters.loadPath(name, path, {}));
  return core.model;
}

/** `some/lora` → `some.lora`: a name may have no slash. */
function nameOf(id: string): string {
  const name = id.replaceAll(/[^\w.-]+/g, ".").replace(/^[.-]+/, "").slice(-MOST_NAME);
  return name.replace(/^[.-]+/, "") || "adapter";
}

/** Two ids may have one name: whether an adapter was read from this path. */
function isFrom(source: string, path: string): boolean {
  return source === path || source.endsWith(`/${path.replace(/^[./]+/, "")}`);
}
