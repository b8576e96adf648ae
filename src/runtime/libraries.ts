/** Shared libraries of the system, by their names. */

/** Whether the system's loader finds and opens a library. */
export function libraryOpens(name: string): boolean {
  try {
    Deno.dlopen(name, {}).close();
    return true;
  } catch {
    return false;
  }
}
