/**
 * From a request's `model` and `adapter` to the core that the engine runs. A bare name means one
 * of the sender's tenant; names of other tenants are not even looked up.
 */
import { parseTunedName, TUNED_PREFIX } from "../../adapters/catalog/name.ts";
import type { ServedCore } from "../../src/engine/request/request.ts";
import { FieldRangeError, isFieldError } from "../../src/util/errors.ts";
import type { CoreCatalog, ServedModel, ServerContext } from "../context.ts";
import { invalid, modelNotFound } from "../errors.ts";
import { isAdministrator, type Principal, sees } from "../access/access.ts";
import type { InlineAdapterField } from "../http/schema/common.ts";

/** What a request's `model` and `adapter` stand for; dispose it when the request has ended. */
export interface Target extends Disposable {
  /** Undefined = the base. */
  readonly core: ServedCore | undefined;
  /**
   * The sender's tenant: whose share of the engine it uses, and whose cached prefixes it may
   * find.
   */
  readonly tenant: string;
  /** The `system_fingerprint`: the build as llama.cpp begins it, then base, dtype and core. */
  readonly fingerprint: string;
}

/** The name of the base where a request names no model. */
export function baseName({ id, served = [] }: ServedModel): string {
  return served[0] ?? id;
}

/**
 * Whether a request's name means the base. All in lower case does so, too: openai-agents sends what
 * its OPENAI_DEFAULT_MODEL says in lower case.
 */
export function isBase({ id, served = [], aliases = [] }: ServedModel, name: string): boolean {
  return [id, ...served, ...aliases].some((own) => name === own || name === own.toLowerCase());
}

/**
 * What a request runs on, by the name that it gave or that stands for none.
 * @throws {ApiError} 404 for an unknown model, 400 for an adapter that does not fit.
 */
export async function resolveTarget(
  context: ServerContext,
  principal: Principal,
  model: string,
  inline: InlineAdapterField | null | undefined,
): Promise<Target> {
  if (inline) {
    await checkInlineModel(context, principal, model);
    return inlineTarget(context, principal, inline);
  }
  if (isBase(context.model, model)) return target(context, principal, undefined);
  const core = await findCore(context.adapters, principal, model);
  if (core === undefined) throw modelNotFound(model);
  return target(context, principal, core);
}

/**
 * The core of a name, if the principal may use it. A bare name is looked up in its own tenant
 * first; only administrators get cores of other tenants.
 * @throws {ApiError} 400 naming the candidates of an ambiguous name
 */
export async function findCore(
  catalog: CoreCatalog,
  principal: Principal,
  name: string,
): Promise<ServedCore | undefined> {
  try {
    for (const full of namesFor(principal, name)) {
      const core = await catalog.find(full);
      if (core !== undefined && sees(principal, core.tenant)) return core;
    }
    return undefined;
  } catch (error) {
    if (!(error instanceof FieldRangeError)) throw error;
    throw invalid("model", error.message, "ambiguous_model");
  }
}

/** The full names to look up for a name: none of a tenant that the principal may not see. */
function namesFor(principal: Principal, name: string): readonly string[] {
  if (name.startsWith(TUNED_PREFIX)) {
    const tuned = parseTunedName(name);
    return tuned !== undefined && sees(principal, tuned.tenant) ? [name] : [];
  }
  const slash = name.indexOf("/");
  const own = `${principal.tenant}/${name}`;
  if (slash === -1) return isAdministrator(principal) ? [own, name] : [own];
  return sees(principal, name.slice(0, slash)) ? [name] : [];
}

async function checkInlineModel(
  context: ServerContext,
  principal: Principal,
  model: string,
): Promise<void> {
  if (isBase(context.model, model)) return;
  const core = await findCore(context.adapters, principal, model);
  if (core === undefined) throw modelNotFound(model);
  throw invalid(
    "adapter",
    `A request with 'adapter' must name the base model '${
      baseName(context.model)
    }', not '${model}'.`,
  );
}

function inlineTarget(
  context: ServerContext,
  principal: Principal,
  inline: InlineAdapterField,
): Target {
  try {
    const held = context.adapters.inline(principal.tenant, inline.cores);
    return target(context, principal, held.core, () => held[Symbol.dispose]());
  } catch (error) {
    if (!isFieldError(error)) throw error;
    throw invalid("adapter.cores", error.message, "invalid_adapter");
  }
}

function target(
  context: ServerContext,
  { tenant }: Principal,
  core: ServedCore | undefined,
  release: () => void = () => {},
): Target {
  const { model: { digest, dtype }, options: { version } } = context;
  const base = `b${version}_${digest.slice(0, 10)}_${dtype}`;
  return {
    core,
    tenant,
    fingerprint: core === undefined ? base : `${base}_${core.digest.slice(0, 10)}`,
    [Symbol.dispose]: release,
  };
}
