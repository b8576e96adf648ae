/** What the flags of serve name on disk: looked at before a model is loaded, so that errors name the flag. */
import { anywhere, HUB_PREFIX, onHub } from "../../adapters/catalog/hub.ts";
import type { AdapterRegistry } from "../../adapters/catalog/registry.ts";
import { givenTemplate } from "../../src/checkpoint/text/chat_template.ts";
import type { ServeFlags } from "./serve_flags.ts";

type Paths = Pick<ServeFlags, "adapters" | "factors" | "loraModules">;

/** @throws {TypeError} naming the flag whose path is not there, or not what it must be */
export async function checkPaths({ adapters, factors, loraModules }: Paths): Promise<void> {
  if (adapters !== undefined) await check("--adapters", adapters, "directory");
  for (const path of factors) await check("--factors", path, "file");
  for (const { path } of loraModules) {
    if (!path.startsWith(HUB_PREFIX)) await check("--lora-modules", path, "file or directory");
  }
}

async function check(flag: string, path: string, wanted: string): Promise<void> {
  const found = await Deno.stat(path).catch((error: Error) => error);
  if (found instanceof Error) {
    const why = found instanceof Deno.errors.NotFound
      ? `there is no ${wanted} '${path}'`
      : found.message;
    throw new TypeError(`Cannot use ${flag}: ${why}.`, { cause: found });
  }
  if (wanted.includes(found.isDirectory ? "directory" : "file")) return;
  throw new TypeError(`Cannot use ${flag}: '${path}' is no ${wanted}.`);
}

/** A template's text rather than a path: it has Jinja's braces, or lines. */
const TEMPLATE_TEXT = /\{[{%#]|\n/;

/**
 * The source of `--chat-template`, the text itself or a file's. As vLLM has it, a text without any
 * braces is taken for a path.
 * @throws {TypeError} naming the flag, where there is no such file or it is no template
 */
export async function readTemplate(given: ServeFlags["chatTemplate"]): Promise<string | undefined> {
  if (given === undefined) return undefined;
  const isText = TEMPLATE_TEXT.test(given);
  if (!isText) await check("--chat-template", given, "file");
  try {
    return givenTemplate(isText ? given : await Deno.readTextFile(given), {}).source;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TypeError(`Cannot use --chat-template ${nameOfTemplate(given)}: ${reason}`, {
      cause,
    });
  }
}

/** What a log says of `--chat-template`. */
export function nameOfTemplate(given: string): string {
  return TEMPLATE_TEXT.test(given) ? "(a text)" : given;
}

/**
 * Registers the adapters of `--lora-modules`, wherever they lie: who starts a server may read them.
 * @throws {TypeError} naming the one that does not fit
 */
export async function loadModules(
  modules: ServeFlags["loraModules"],
  registry: AdapterRegistry,
): Promise<void> {
  for (const { name, path } of modules) {
    try {
      const find = path.startsWith(HUB_PREFIX) ? onHub : anywhere;
      const { directory, ...place } = await find(path, registry);
      await directory.load({ name, ...place });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new TypeError(`Cannot use --lora-modules ${name}=${path}: ${reason}`, { cause });
    }
  }
}
