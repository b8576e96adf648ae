/**
 * From a request's `model` and `adapter` to what the engine runs. It owns which name wins and whose
 * tenant a request counts as; it knows no file and no core.
 */
import type { AdapterCatalog, AdapterEntry, ServerContext } from "./context.ts";
import { ApiError, invalid, modelNotFound } from "./errors.ts";
import type { InlineAdapterField } from "./schema/common.ts";
import type { AdapterRef } from "../src/engine/adapter.ts";

/** What a request's names stand for; dispose when the request has ended. */
export interface Target extends Disposable {
  /** Undefined = the base. */
  readonly adapter: AdapterRef | undefined;
  readonly tenant: string;
  /** The `system_fingerprint`: changes with base, core and dtype. */
  readonly fingerprint: string;
}

/** @throws {ApiError} 404 for an unknown model, 400 for an adapter that does not fit. */
export function resolveTarget(
  context: ServerContext,
  model: string,
  inline: InlineAdapterField | null | undefined,
): Target {
  if (inline) return inlineTarget(context, model, inline);
  if (model === context.model.id) return target(context, undefined, "");
  const entry = findAdapter(context.adapters, model);
  if (entry === undefined) throw modelNotFound(model);
  return target(context, entry.ref, entry.tenant);
}

/** @throws {ApiError} 400 naming the candidates of an ambiguous name. */
export function findAdapter(adapters: AdapterCatalog, name: string): AdapterEntry | undefined {
  try {
    return adapters.find(name);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw invalid("model", error.message, "ambiguous_model");
  }
}

function inlineTarget(
  context: ServerContext,
  model: string,
  inline: InlineAdapterField,
): Target {
  if (model !== context.model.id) {
    if (findAdapter(context.adapters, model) === undefined) throw modelNotFound(model);
    throw invalid(
      "adapter",
      `A request with 'adapter' must name the base model '${context.model.id}', not '${model}'.`,
    );
  }
  try {
    const held = context.adapters.inline(inline.cores);
    return target(context, held.ref, `inline:${held.ref.digest}`, () => held[Symbol.dispose]());
  } catch (error) {
    if (error instanceof ApiError || !(error instanceof TypeError || error instanceof RangeError)) {
      throw error;
    }
    throw invalid("adapter.cores", error.message, "invalid_adapter");
  }
}

function target(
  context: ServerContext,
  adapter: AdapterRef | undefined,
  tenant: string,
  release: () => void = () => {},
): Target {
  const base = `fp_${context.model.digest.slice(0, 10)}_${context.model.dtype}`;
  return {
    adapter,
    tenant,
    fingerprint: adapter === undefined ? base : `${base}_${adapter.digest.slice(0, 10)}`,
    [Symbol.dispose]: release,
  };
}
