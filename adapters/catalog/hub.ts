/** Adapters by their ids on the hub, and by paths that whoever starts a server names. */
import { basename, dirname, resolve } from "node:path";
import { resolveHubAdapter } from "../../src/checkpoint/fetch/resolve.ts";
import { FieldError } from "../../src/util/errors.ts";
import { AdapterDirectory } from "./directory.ts";
import type { AdapterRegistry } from "./registry.ts";

/** What a path begins with that is an id on the hub. */
export const HUB_PREFIX = "hf:";

/** Where an adapter lies, wherever that is. */
export interface AdapterPlace {
  readonly directory: AdapterDirectory;
  /** Within the directory. */
  readonly path: string;
  /** What lists say of it. */
  readonly source: string;
}

/**
 * A LoRA of the hub, `hf:owner/name`, fetched where it is not there yet.
 * @throws {FieldError} where it cannot be had, saying what to do instead
 */
export async function onHub(spec: string, registry: AdapterRegistry): Promise<AdapterPlace> {
  try {
    const found = await resolveHubAdapter(spec.slice(HUB_PREFIX.length));
    return { ...await anywhere(found, registry), source: spec };
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new FieldError("path", cause.message, { cause });
  }
}

/** A path outside the server's directory: for who may read the machine's files. */
export async function anywhere(path: string, registry: AdapterRegistry): Promise<AdapterPlace> {
  const whole = resolve(path);
  const directory = await AdapterDirectory.open(dirname(whole), registry);
  return { directory, path: basename(whole), source: whole };
}
