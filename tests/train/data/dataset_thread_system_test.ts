/** A training file read in a thread: the same examples, the same words, and a loop that turns. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { readDataset } from "../../../src/train/data/dataset.ts";
import { readDatasetOnThread } from "../../../src/train/data/dataset_thread.ts";
import { fileOf } from "../sources.ts";

const path = new URL("../../fixtures/checkpoint/qwen3", import.meta.url).pathname;
const maxContext = 1 << 20;

async function* inPieces(file: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < file.length; at += size) {
    yield await Promise.resolve(file.slice(at, at + size));
  }
}

const LINES = [
  { prompt: "2 + 2 =", completion: " 4" },
  { prompt: "\u00e9", completion: " \u{1f642}" },
];

Deno.test("a thread reads what the loop reads, in pieces of any size", async () => {
  using source = await openCheckpoint(path);
  const file = fileOf(...LINES);
  const expected = readDataset(file, { source, maxContext });
  for (const size of [3, 1000]) {
    assertEquals(await readDatasetOnThread(inPieces(file, size), { path, maxContext }), expected);
  }
});

Deno.test("broken lines, a broken file and an end of interest are told as they are", async () => {
  const read = (file: AsyncIterable<Uint8Array>, signal?: AbortSignal) =>
    readDatasetOnThread(file, { path, maxContext, ...(signal && { signal }) });
  const broken = fileOf(...LINES, { prompt: 5, completion: "x" });
  await assertRejects(() => read(inPieces(broken, 100)), Error, "line 3");
  async function* torn(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(new Uint8Array([123]));
    throw new RangeError("the file was torn");
  }
  await assertRejects(() => read(torn()), RangeError, "the file was torn");
  const over = new AbortController();
  const reading = read(inPieces(fileOf(...LINES), 1), over.signal);
  over.abort(new Error("the job was cancelled"));
  await assertRejects(() => reading, Error, "the job was cancelled");
});

Deno.test("the event loop turns while a line of half a megabyte becomes tokens", async () => {
  const file = fileOf({ prompt: "ab".repeat(1 << 18), completion: " c" });
  let [turns, over] = [0, false];
  const reading = readDatasetOnThread(inPieces(file, 1 << 16), { path, maxContext })
    .finally(() => over = true);
  while (!over) {
    await new Promise((go) => setTimeout(go, 1));
    turns++;
  }
  assertEquals((await reading).examples.length, 1);
  assert(turns > 100, `${turns} turns`);
});
