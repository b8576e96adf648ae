/** How much lies in a folder, and how much room is left for it. */
import { statfsSync } from "node:fs";
import { dirname } from "node:path";

/** Bytes of all files in a folder, however deep; what is not there, or goes meanwhile, counts nothing. */
export function bytesUnder(folder: string): number {
  try {
    return [...Deno.readDirSync(folder)].reduce((sum, { name, isDirectory }) => {
      const path = `${folder}/${name}`;
      return sum + (isDirectory ? bytesUnder(path) : Deno.lstatSync(path).size);
    }, 0);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** Bytes that this user may still write where a folder is, or would be made. */
export function freeBytes(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch (error) {
    const parent = dirname(folder);
    if ((error as { code?: string }).code !== "ENOENT" || parent === folder) throw error;
    return freeBytes(parent);
  }
}
