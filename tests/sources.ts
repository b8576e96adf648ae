/** The repository's files as the tests of the house read them: texts, code, and what imports what. */
import { dirname, join, normalize } from "node:path/posix";

export const ROOT = new URL("../", import.meta.url);
const SKIPPED = new Set([".git", "node_modules", ".lembas", "__pycache__"]);

export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

export interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

export async function tracked(): Promise<string[]> {
  try {
    const { success, stdout } = await new Deno.Command("git", {
      args: ["-C", decodeURIComponent(ROOT.pathname), "ls-files"],
      stderr: "null",
    }).output();
    if (success) return new TextDecoder().decode(stdout).trim().split("\n");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return walk("");
}

/** An unpacked archive has no index: every file but build and cache folders. */
async function walk(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(new URL(folder, ROOT))) {
    if (SKIPPED.has(entry.name)) continue;
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory) found.push(...await walk(`${path}/`));
    else found.push(path);
  }
  return found;
}

/** Every tracked file that is text. */
export async function texts(): Promise<SourceFile[]> {
  const files = await Promise.all((await tracked()).map(async (path) => {
    try {
      const bytes = await Deno.readFile(new URL(path, ROOT));
      return [{ path, text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) }];
    } catch (error) {
      if (error instanceof TypeError || error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }));
  return files.flat();
}

export function code(files: readonly SourceFile[]): SourceFile[] {
  return files.filter(({ path }) => /\.(tsx?|mjs)$/.test(path));
}

/** The modules a file names in imports and re-exports; relative ones as paths from the root. */
export function importsOf({ path, text }: SourceFile): Import[] {
  const statements = text.matchAll(
    /^(?:import|export)\s+(type\s)?(?:[^;"']*?\sfrom\s+)?["']([^"']+)["']|import\(\s*["']([^"']+)["']/gm,
  );
  return [...statements].map(([, type, fixed, dynamic]) => {
    const name = fixed ?? dynamic ?? "";
    const to = name.startsWith(".") ? normalize(join(dirname(path), name)) : name;
    return { from: path, to, typeOnly: type !== undefined };
  });
}
