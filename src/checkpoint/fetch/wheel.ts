/**
 * What a wheel holds: its entries against the digests of its RECORD, and files unpacked from it.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { RandomAccessFile } from "../formats/file.ts";
import { removeIfThere } from "./cache.ts";
import { baseName } from "./model_files.ts";
import type { Progress } from "./progress.ts";
import { readZipEntry, type ZipEntry } from "./zip.ts";

/** A wheel's RECORD: SHA-256 (hex) by name, which the file has in URL-safe base64 (PEP 427). */
export async function readRecord(
  file: RandomAccessFile,
  entries: readonly ZipEntry[],
): Promise<ReadonlyMap<string, string>> {
  const record = entries.find(({ name }) => /^[^/]+\.dist-info\/RECORD$/.test(name));
  if (record === undefined) throw new TypeError(`Cannot use ${file.path}: it has no RECORD`);
  const lines = (await readText(file, record)).matchAll(
    /^"?([^",\n]+)"?,sha256=([\w-]+),\d*\r?$/gm,
  );
  return new Map(
    Array.from(lines, ([, name = "", digest = ""]) => [
      name,
      Buffer.from(digest, "base64url").toString("hex"),
    ]),
  );
}

/** An entry of a wheel as text. */
export async function readText(file: RandomAccessFile, entry: ZipEntry): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of readZipEntry(file, entry)) {
    text += decoder.decode(chunk, { stream: true });
  }
  return text;
}

/**
 * Unpacks an entry to `target`, which is there only once it is whole.
 *
 * @param digest what its SHA-256 (hex) must be
 * @throws {TypeError} where it is another, or the archive is damaged
 */
export async function unpackEntry(
  file: RandomAccessFile,
  entry: ZipEntry,
  target: string,
  { digest, progress }: { readonly digest: string | undefined; readonly progress: Progress },
): Promise<void> {
  const part = `${target}.part`;
  try {
    const found = await write(file, entry, part, progress);
    if (found !== digest) {
      throw new TypeError(
        `Cannot use '${entry.name}': its SHA-256 is ${found}, it should be ${digest}`,
      );
    }
    await Deno.rename(part, target);
  } catch (error) {
    await removeIfThere(part);
    throw error;
  }
}

/** Its SHA-256 (hex). */
async function write(
  file: RandomAccessFile,
  entry: ZipEntry,
  target: string,
  progress: Progress,
): Promise<string> {
  const hash = createHash("sha256");
  using out = await Deno.open(target, { create: true, write: true, truncate: true });
  let done = 0;
  for await (const chunk of readZipEntry(file, entry)) {
    hash.update(chunk);
    for (let at = 0; at < chunk.length;) at += await out.write(chunk.subarray(at));
    done += chunk.length;
    progress(`unpacking ${baseName(entry.name)}`, done, entry.size);
  }
  return hash.digest("hex");
}
