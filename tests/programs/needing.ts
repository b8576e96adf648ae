/** Tests that need a program which is not everywhere: passed over where it is missing, with the reason. */

/** What `Deno.test` is told of such a test, besides what it does. */
export interface Needing {
  readonly name: string;
  readonly ignore: boolean;
}

/**
 * A test's name, and whether it is passed over: where `missing` says why, which its name then shows.
 * With `variable` set to "required", as in `.ci/run`, it runs all the same, and fails.
 */
export function needing(name: string, missing: string | undefined, variable: string): Needing {
  if (missing === undefined || Deno.env.get(variable) === "required") {
    return { name, ignore: false };
  }
  return { name: `${name} (passed over: ${missing})`, ignore: true };
}

/** The first folder of the search path that has all these files. */
export function folderOnPath(...names: readonly string[]): string | undefined {
  const folders = (Deno.env.get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":");
  return folders.find((folder) => names.every((name) => isFile(`${folder}/${name}`)));
}

export function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
