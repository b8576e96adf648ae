/**
 * What the scripts of this folder run in: a virtual environment for each Python client, made once and
 * kept in the cache directory, and Deno with the import map of `javascript/`. Versions are exact, so
 * that a release elsewhere does not fail this repository's tests; move them on by hand.
 */
import { cacheDirectory } from "../../src/util/cache_directory.ts";

/** What pip installs for `python/NAME_client.py`. */
const PACKAGES = {
  openai: "openai==3.57.0",
  anthropic: "anthropic==2.14.0",
  langchain: "langchain-openai==1.7.4",
  litellm: "litellm==1.110.2",
  llama_index: "llama-index-llms-openai-like==0.8.1",
  instructor: "instructor==1.17.0",
  pydantic_ai: "pydantic-ai-slim[openai]==2.68.0",
  agents: "openai-agents==0.24.0",
} as const;

export type PythonClient = keyof typeof PACKAGES;
export const PYTHON = Object.keys(PACKAGES) as readonly PythonClient[];

/** `javascript/NAME_client.mjs`. */
export const JAVASCRIPT = [
  "openai",
  "anthropic",
  "langchain",
  "vercel_compatible",
  "vercel_openai",
] as const;

/** A package could not be had; the message is its installer's. */
export class MissingPackage extends Error {}

/**
 * Runs a client's script with the variables; resolves where it ends well.
 *
 * @throws {MissingPackage} where its package cannot be installed
 * @throws {Error} with what the script wrote, where it fails
 */
export async function runPython(
  name: PythonClient,
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const python = await environment(PACKAGES[name]);
  await run(python, ["-B", path(`python/${name}_client.py`)], {
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

/** The Python of an environment that has the package; one whose making broke off is made again. */
async function environment(wanted: string): Promise<string> {
  const folder = `${cacheDirectory()}/test-clients/${wanted.replaceAll(/[^\w.-]+/g, "-")}`;
  const python = `${folder}/bin/python`;
  const whole = `${folder}/whole`;
  try {
    await Deno.stat(whole);
    return python;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  await run("python3", ["-m", "venv", "--clear", "--without-pip", folder]).catch(missing);
  const install = ["install", "--no-compile", "--no-input", "--only-binary=:all:", wanted];
  await run("python3", ["-m", "pip", "--quiet", "--python", python, ...install]).catch(missing);
  await Deno.writeTextFile(whole, "");
  return python;
}

function missing(error: unknown): never {
  const message = error instanceof Error ? error.message : String(error);
  throw new MissingPackage(message.trim().split("\n").at(-1));
}

async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    ...{ args: [...args], env, stdin: "null", stdout: "piped", stderr: "piped" },
  }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(`${text.decode(stdout)}${text.decode(stderr)}`);
}

function path(name: string): string {
  return new URL(name, import.meta.url).pathname;
}
