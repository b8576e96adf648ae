/**
 * A GGUF in parts against the same in one file: gguf-py split it. And what is refused before anything
 * large is read.
 */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { RandomAccessFile } from "../../../src/checkpoint/formats/file.ts";
import { readGgufHeader } from "../../../src/checkpoint/formats/gguf.ts";
import { refuseUnknown } from "../../../src/checkpoint/formats/gguf_config.ts";
import { fixture, withDirectory, withFile } from "../fixtures.ts";

const PARTS = fixture("parts");
const NAMES = [...Deno.readDirSync(PARTS)].map(({ name }) => name).sort();

Deno.test("a GGUF in parts, by its directory or any part, is the model in one file", async () => {
  await withDirectory(async (cache) => {
    using whole = await openCheckpoint(fixture("llama.gguf"), { cache });
    for (const path of [PARTS, ...NAMES.map((name) => `${PARTS}/${name}`)]) {
      using parts = await openCheckpoint(path, { cache });
      assertEquals(parts.config, whole.config);
      assertEquals(await parts.digest(), await whole.digest());
      assertEquals(
        parts.tokenizer.encode("and in the end"),
        whole.tokenizer.encode("and in the end"),
      );
      if (path !== PARTS) assertEquals(parts.id, "llama");
    }
  });
});

Deno.test("parts of which one is missing, or that were renamed, are refused by name", async () => {
  await withDirectory(async (folder) => {
    for (const name of NAMES.slice(0, -1)) {
      await Deno.copyFile(`${PARTS}/${name}`, `${folder}/${name}`);
    }
    const [first] = NAMES;
    await assertRejects(() => openCheckpoint(`${folder}/${first}`), TypeError, NAMES.at(-1) ?? "");
    await Deno.rename(`${folder}/${first}`, `${folder}/alone.gguf`);
    const message = `it is one of ${NAMES.length} parts`;
    await assertRejects(() => openCheckpoint(`${folder}/alone.gguf`), TypeError, message);
  });
});

Deno.test("an unknown architecture is refused before what follows its name is read", () => {
  const bytes = Deno.readFileSync(fixture("llama.gguf"));
  const name = new TextEncoder().encode("llama");
  const at = new TextDecoder("latin1").decode(bytes).indexOf("llama");
  bytes.set(new TextEncoder().encode("mamba"), at);
  // whoever reads on finds a string of more bytes than there are
  bytes.fill(0xff, at + name.length);
  withFile(bytes, (path) => {
    using file = RandomAccessFile.open(path);
    assertThrows(
      () => readGgufHeader(file, refuseUnknown),
      TypeError,
      "Cannot load architecture 'mamba': supported are llama, mistral",
    );
  });
});
