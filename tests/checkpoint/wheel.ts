/**
 * Writes small Python wheels: zip archives (deflated where that is shorter) with a RECORD. What a
 * test changes about them makes them damaged.
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { crc32, deflateRawSync } from "node:zlib";

export interface WheelOptions {
  /** Default: tiny_model. */
  readonly name?: string;
  /** Default: 1.0. */
  readonly version?: string;
  /** More lines of METADATA. */
  readonly metadata?: string;
  /** RECORD tells the digest of these bytes instead of each file's own. */
  readonly recordOf?: Uint8Array;
}

/** Writes `NAME-VERSION-py3-none-any.whl` into the directory; its path. */
export async function writeWheel(
  directory: string,
  files: Readonly<Record<string, Uint8Array>>,
  { recordOf, name = "tiny_model", version = "1.0", metadata = "" }: WheelOptions = {},
): Promise<string> {
  const info = `${name}-${version}.dist-info`;
  const lines = Object.entries(files).map(([path, bytes]) => {
    const digest = createHash("sha256").update(recordOf ?? bytes).digest("base64url");
    return `${path},sha256=${digest},${bytes.length}\n`;
  });
  const encoder = new TextEncoder();
  const texts = {
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n${metadata}`,
    [`${info}/WHEEL`]:
      "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    [`${info}/RECORD`]: `${lines.join("")}${info}/RECORD,,\n`,
  };
  const extra = Object.entries(texts).map(([name, text]) => [name, encoder.encode(text)] as const);
  await Deno.mkdir(directory, { recursive: true });
  const path = `${directory}/${name}-${version}-py3-none-any.whl`;
  await Deno.writeFile(path, zip([...Object.entries(files), ...extra]));
  return path;
}

/** A zip archive of these files. */
export function zip(files: readonly (readonly [string, Uint8Array])[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const [name, bytes] of files) {
    const deflated = deflateRawSync(bytes);
    const method = deflated.length < bytes.length ? 8 : 0;
    const packed = method === 8 ? deflated : bytes;
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(method, 4);
    common.writeUInt32LE(crc32(bytes), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(bytes.length, 18);
    common.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04"), common, Buffer.from(name), packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(
      Buffer.concat([Buffer.from("PK\x01\x02\x14\x00"), common, tail, Buffer.from(name)]),
    );
    parts.push(local);
    offset += local.length;
  }
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06");
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(directory.reduce((sum, { length }) => sum + length, 0), 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, ...directory, end]);
}
