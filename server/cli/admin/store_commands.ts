/** `admin backup`, `admin restore`: copies of a store. */
import { type AdminCommand, named } from "./output.ts";
import { restoreBackup } from "../../../adapters/store/backup.ts";
import { formatBytes } from "../../../src/util/bytes.ts";

export const STORE_COMMANDS: readonly AdminCommand[] = [
  {
    name: "backup",
    words: ["FILE"],
    help: "Writes a backup of the embedded store, while its server serves.",
    flags: {},
    run: async ({ api, words: [file = ""] }) => {
      const response = await api.response("/v1/admin/backup");
      const size = await write(file, response);
      return { json: { file, bytes: size }, text: `wrote ${file}, ${formatBytes(size)}` };
    },
  },
  {
    name: "restore",
    words: ["FILE", "DIR"],
    help: "Puts a backup into a directory that holds no store yet, to be served with --data DIR.",
    flags: {},
    run: async ({ words: [file = "", data = ""] }) => {
      await named(file, (file) => Deno.stat(file));
      await restoreBackup(file, data);
      return { json: { file, data }, text: `restored ${file} into ${data}` };
    },
  },
];

/**
 * Writes to `FILE.part` and renames it, so that FILE is always a whole backup: this one or the
 * last.
 */
async function write(path: string, response: Response): Promise<number> {
  const part = `${path}.part`;
  const file = await Deno.open(part, { write: true, create: true, truncate: true, mode: 0o600 });
  try {
    await response.body?.pipeTo(file.writable);
    await Deno.rename(part, path);
    return (await Deno.stat(path)).size;
  } catch (error) {
    await Deno.remove(part).catch(() => {});
    throw error;
  }
}
