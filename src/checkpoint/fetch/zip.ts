/**
 * Reading zip archives, as far as wheels use the format (PKWARE's APPNOTE): stored and deflated
 * entries, listed from the central directory and streamed one by one. Names are only names here;
 * where an entry goes is the caller's choice.
 */

import type { RandomAccessFile } from "../formats/file.ts";

export interface ZipEntry {
  readonly name: string;
  readonly method: "stored" | "deflated";
  /** Bytes in the archive. */
  readonly packed: number;
  /** Bytes once unpacked, as the archive claims. */
  readonly size: number;
  /** Where the entry's local header starts. */
  readonly offset: number;
}

const END_SIGNATURE = 0x06054b50;
const END_BYTES = 22;
const MAX_COMMENT = 0xffff;
const DIRECTORY_SIGNATURE = 0x02014b50;
const DIRECTORY_BYTES = 46;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_BYTES = 30;
const CHUNK_BYTES = 1 << 20;

/**
 * Lists the archive's entries.
 *
 * @throws {TypeError} where the file is no zip archive, a damaged one, or one of 4 GB and more
 */
export function readZipEntries(file: RandomAccessFile): readonly ZipEntry[] {
  const end = findEnd(file);
  const count = end.getUint16(10, true);
  const bytes = end.getUint32(12, true);
  const start = end.getUint32(16, true);
  if (start === 0xffffffff || count === 0xffff) throw fault(file, "it is a zip64 archive");
  if (start + bytes > file.size || count * DIRECTORY_BYTES > bytes) {
    throw fault(file, "its directory reaches beyond its end");
  }
  const directory = file.read(start, bytes);
  const entries: ZipEntry[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    const { entry, next } = readDirectoryEntry(file, directory, at);
    entries.push(entry);
    at = next;
  }
  return entries;
}

/**
 * The entry's contents, chunk by chunk, never more than the size it claims.
 *
 * @throws {TypeError} where the contents are damaged or not of that size
 */
export async function* readZipEntry(
  file: RandomAccessFile,
  entry: ZipEntry,
): AsyncGenerator<Uint8Array> {
  const chunks = ReadableStream.from(packedChunks(file, entry));
  const stream = entry.method === "stored"
    ? chunks
    : chunks.pipeThrough(new DecompressionStream("deflate-raw"));
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > entry.size) break;
    yield chunk;
  }
  if (size !== entry.size) {
    throw fault(file, `'${entry.name}' unpacks to ${size} bytes instead of ${entry.size}`);
  }
}

function findEnd(file: RandomAccessFile): DataView {
  const length = Math.min(file.size, END_BYTES + MAX_COMMENT);
  const tail = file.read(file.size - length, length);
  const view = new DataView(tail.buffer);
  for (let at = length - END_BYTES; at >= 0; at--) {
    if (view.getUint32(at, true) === END_SIGNATURE) return new DataView(tail.buffer, at);
  }
  throw fault(file, "it is no zip archive");
}

function readDirectoryEntry(
  file: RandomAccessFile,
  directory: Uint8Array<ArrayBuffer>,
  at: number,
): { entry: ZipEntry; next: number } {
  const view = new DataView(directory.buffer, directory.byteOffset, directory.length);
  const whole = at + DIRECTORY_BYTES <= directory.length;
  if (!whole || view.getUint32(at, true) !== DIRECTORY_SIGNATURE) {
    throw fault(file, "its directory is damaged");
  }
  const nameEnd = at + DIRECTORY_BYTES + view.getUint16(at + 28, true);
  const next = nameEnd + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  if (next > directory.length) throw fault(file, "its directory is damaged");
  const name = new TextDecoder().decode(directory.subarray(at + DIRECTORY_BYTES, nameEnd));
  const entry = {
    name,
    method: methodOf(file, name, view.getUint16(at + 10, true)),
    packed: view.getUint32(at + 20, true),
    size: view.getUint32(at + 24, true),
    offset: view.getUint32(at + 42, true),
  };
  return { entry, next };
}

function methodOf(file: RandomAccessFile, name: string, method: number): ZipEntry["method"] {
  if (method === 0) return "stored";
  if (method === 8) return "deflated";
  throw fault(file, `'${name}' is packed by method ${method}, 0 and 8 are read`);
}

function* packedChunks(
  file: RandomAccessFile,
  entry: ZipEntry,
): Generator<Uint8Array<ArrayBuffer>> {
  const header = new DataView(file.read(entry.offset, LOCAL_BYTES).buffer);
  if (header.getUint32(0, true) !== LOCAL_SIGNATURE) {
    throw fault(file, `'${entry.name}' has no header at byte ${entry.offset}`);
  }
  const names = header.getUint16(26, true) + header.getUint16(28, true);
  const start = entry.offset + LOCAL_BYTES + names;
  for (let done = 0; done < entry.packed; done += CHUNK_BYTES) {
    yield file.read(start + done, Math.min(CHUNK_BYTES, entry.packed - done));
  }
}

function fault(file: RandomAccessFile, text: string): TypeError {
  return new TypeError(`Cannot unpack ${file.path}: ${text}`);
}
