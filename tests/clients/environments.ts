/**
 * What the scripts of this folder run in: virtual environments for Python's clients, made once and
 * kept in the cache directory, and Deno with the import map of `javascript/`. Versions are exact, so
 * that a release elsewhere does not fail this repository's tests; move them on by hand.
 */
import { cacheDirectory } from "../../src/util/cache_directory.ts";

/** What pip installs. */
const PACKAGES = {
  openai: "openai==3.57.0",
  anthropic: "anthropic==2.14.0",
  langchain: "langchain-openai==1.7.4",
  litellm: "litellm==1.110.2",
  pydantic_ai: "pydantic-ai-slim[openai]==2.68.0",
  agents: "openai-agents==0.24.0",
  // of these the first wants an openai before 3, the second an older jiter than openai's
  llama_index: "llama-index-llms-openai-like==0.8.1",
  llama_index_embeddings: "llama-index-embeddings-openai-like==0.4.0",
  instructor: "instructor==1.17.0",
} as const;

type Package = keyof typeof PACKAGES;

/** Those that get along in one environment. */
const TOGETHER: readonly (readonly Package[])[] = [
  ["openai", "anthropic", "langchain", "litellm", "pydantic_ai", "agents"],
  ["llama_index", "instructor"],
];

/** `python/NAME_client.py`, and what it needs. */
const SCRIPTS = {
  openai: "openai",
  openai_responses: "openai",
  anthropic: "anthropic",
  langchain: "langchain",
  langchain_responses: "langchain",
  pydantic_ai: "pydantic_ai",
  pydantic_ai_responses: "pydantic_ai",
  agents: "agents",
  agents_responses: "agents",
  litellm: "litellm",
  llama_index: "llama_index",
  instructor: "instructor",
} as const satisfies Readonly<Record<string, Package>>;

/** The same against an encoder. */
const ENCODER_SCRIPTS = {
  openai_embeddings: "openai",
  langchain_embeddings: "langchain",
  litellm_embeddings: "litellm",
  llama_index_embeddings: "llama_index_embeddings",
} as const satisfies Readonly<Record<string, Package>>;

export type PythonClient = keyof typeof SCRIPTS | keyof typeof ENCODER_SCRIPTS;
export const PYTHON = Object.keys(SCRIPTS) as readonly PythonClient[];
export const ENCODERS = Object.keys(ENCODER_SCRIPTS) as readonly PythonClient[];

/** `javascript/NAME_client.mjs`. */
export const JAVASCRIPT = [
  "openai",
  "openai_responses",
  "anthropic",
  "langchain",
  "langchain_responses",
  "vercel_compatible",
  "vercel_openai",
  "vercel_openai_responses",
] as const;

/** A package could not be had; the message is its installer's. */
export class MissingPackage extends Error {}

/** Why a client that ended so is passed over; undefined where that is no reason. */
export function passedOver(error: unknown, required: boolean): string | undefined {
  return error instanceof MissingPackage && !required ? error.message : undefined;
}

/** Virtual environments in a folder. */
export class Environments {
  readonly #folder: string;
  /** The Python of each by its packages, so that two clients wait for one making. */
  readonly #made = new Map<string, Promise<string>>();

  constructor(folder = `${cacheDirectory()}/test-clients`) {
    this.#folder = folder;
  }

  /**
   * The Python of an environment that has what a client needs: one of several packages, or, where
   * not all of these can be had, its own.
   *
   * @throws {MissingPackage} where its package cannot be installed
   */
  async of(client: PythonClient): Promise<string> {
    const wanted = { ...SCRIPTS, ...ENCODER_SCRIPTS }[client];
    const together = TOGETHER.find((names) => names.includes(wanted)) ?? [wanted];
    try {
      return await this.with(together.map((name) => PACKAGES[name]));
    } catch (error) {
      if (!(error instanceof MissingPackage) || together.length === 1) throw error;
      return await this.with([PACKAGES[wanted]]);
    }
  }

  /**
   * The Python of an environment that has packages as pip knows them.
   * @throws {MissingPackage} where they cannot be installed
   */
  with(packages: readonly string[]): Promise<string> {
    const key = packages.join(" ");
    const made = this.#made.get(key) ?? this.#make(packages);
    this.#made.set(key, made);
    return made;
  }

  /** One whose making broke off is made again. */
  async #make(packages: readonly string[]): Promise<string> {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(`${packages}`));
    const folder = `${this.#folder}/${new Uint8Array(digest).toHex().slice(0, 16)}`;
    const python = `${folder}/bin/python`;
    const whole = `${folder}/whole`;
    try {
      await Deno.stat(whole);
      return python;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    await run("python3", ["-m", "venv", "--clear", "--without-pip", folder]).catch(missing);
    const options = ["--no-compile", "--no-input", "--only-binary=:all:"];
    const install = ["-m", "pip", "--quiet", "--python", python, "install", ...options];
    await run("python3", [...install, ...packages]).catch(missing);
    await Deno.writeTextFile(whole, "");
    return python;
  }
}

/**
 * Runs a client's script with the variables; resolves where it ends well.
 *
 * @throws {MissingPackage} where its package cannot be installed
 * @throws {Error} with what the script wrote, where it fails
 */
export async function runPython(
  name: PythonClient,
  environments: Environments,
  env: Readonly<Record<string, string>>,
): Promise<void> {
  await run(await environments.of(name), ["-B", path(`python/${name}_client.py`)], {
    ...env,
    LITELLM_LOCAL_MODEL_COST_MAP: "True", // it would ask the internet for prices
  });
}

/** As `runPython`. */
export async function runJavaScript(
  name: (typeof JAVASCRIPT)[number],
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const script = path(`javascript/${name}_client.mjs`);
  const config = ["--no-check", "--config", path("javascript/deno.json")];
  await run(Deno.execPath(), ["cache", ...config, script]).catch(missing);
  await run(Deno.execPath(), ["run", "-A", ...config, script], env);
}

/** The line that pip and Deno begin with "error", whose last lines may say where; or the last. */
function missing(error: unknown): never {
  const message = error instanceof Error ? error.message : String(error);
  const lines = message.trim().split("\n");
  throw new MissingPackage(lines.findLast((line) => /^error\b/i.test(line)) ?? lines.at(-1));
}

async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    ...{
      args: [...args],
      env: { NO_COLOR: "1", ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    },
  }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(`${text.decode(stdout)}${text.decode(stderr)}`);
}

function path(name: string): string {
  return new URL(name, import.meta.url).pathname;
}
