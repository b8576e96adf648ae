/** Zip archives as wheels use them, whole and damaged. */

import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { RandomAccessFile } from "../../../src/checkpoint/formats/file.ts";
import { readZipEntries, readZipEntry } from "../../../src/checkpoint/fetch/zip.ts";
import { seeded, withFile } from "../fixtures.ts";
import { zip } from "../wheel.ts";

const TEXT = new TextEncoder().encode("again and ".repeat(500));
const NOISE = Uint8Array.from({ length: 300 }, (_, i) => i * 97 % 251);
const ARCHIVE = zip([["a/text", TEXT], ["noise", NOISE], ["empty", new Uint8Array(0)]]);

/** Unpacks everything; the file must not outlive this. */
async function unpackAll(bytes: Uint8Array): Promise<ReadonlyMap<string, Uint8Array>> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, bytes);
    using file = RandomAccessFile.open(path);
    const unpacked = new Map<string, Uint8Array>();
    for (const entry of readZipEntries(file)) {
      const chunks = await Array.fromAsync(readZipEntry(file, entry));
      unpacked.set(entry.name, new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer()));
    }
    return unpacked;
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("stored and deflated entries are unpacked whole", async () => {
  const files = await unpackAll(ARCHIVE);
  assertEquals(files.get("a/text"), TEXT);
  assertEquals(files.get("noise"), NOISE);
  assertEquals(files.get("empty"), new Uint8Array(0));
});

Deno.test("an archive cut anywhere is refused", () => {
  for (let length = 0; length < ARCHIVE.length; length += 7) {
    withFile(ARCHIVE.subarray(0, length), (path) => {
      using file = RandomAccessFile.open(path);
      assertThrows(() => readZipEntries(file), TypeError, "Cannot unpack");
    });
  }
});

Deno.test("an entry that unpacks to more than it claims is stopped there", async () => {
  const lying = ARCHIVE.slice();
  const view = new DataView(lying.buffer);
  const directory = view.getUint32(lying.length - 6, true);
  view.setUint32(directory + 24, 10, true);
  await assertRejects(() => unpackAll(lying), TypeError, "'a/text' unpacks to");
});

Deno.test("flipped bits give an error or some files, never more", async () => {
  const random = seeded(7);
  let refused = 0;
  for (let round = 0; round < 150; round++) {
    const bytes = ARCHIVE.slice();
    const at = Math.floor(random() * bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ 1 << Math.floor(random() * 8);
    try {
      const files = await unpackAll(bytes);
      assert(files.size <= 3);
    } catch (error) {
      assertInstanceOf(error, Error);
      refused++;
    }
  }
  assert(refused > 20, `only ${refused} of 150 were refused`);
});
