/** README.md's shell blocks, and what makes those small that would take minutes. */

const README = new URL("../../README.md", import.meta.url);

/** The text of each ```sh block, in order. */
export async function shellBlocks(): Promise<readonly string[]> {
  const text = await Deno.readTextFile(README);
  return Array.from(text.matchAll(/^```sh\n(.*?)^```$/gms), ([, block]) => block ?? "");
}

/** What a line of `deno task bench` is given besides, by its mode. */
const TINY: Readonly<Record<string, string>> = {
  decode: "--rounds 1 --steps 2 --batches 1,2 --ranks 4 --only decode,prefill",
  // where llama.cpp cannot be had it says so, and ends
  peers: "--rounds 1 --steps 2 --batches 1,2 --ranks 4 --types shipped --only decode 2>&1 || true",
  serve: "--rounds 1 --requests 4 --clients 2 --prompt 8 --output 2 --rank 4 " +
    "--popularity base,distinct:2",
  overhead: "--rounds 1 --batches 1,2",
  "train speed": "--rounds 1 --steps 1 --ranks 4 --only text",
};

/** @throws {Error} for a mode that has no small settings here */
export function withTinyBenches(block: string): string {
  return block.replaceAll(/^(.*deno task bench )(train \w+|\w+)/gm, (_, before, mode) => {
    const flags = TINY[mode];
    if (flags === undefined) throw new Error(`README.md names the bench '${mode}': say how small`);
    return `${before}${mode} ${flags}`;
  });
}

/** Six settings on the first rows alone: what a sweep brings is there all the same. */
export function withFewRows(block: string): string {
  const [train, valid] = ["rows/few.train.jsonl", "rows/few.valid.jsonl"];
  return `head -24 rows/shelf.train.jsonl > ${train}\nhead -12 rows/shelf.test.jsonl > ${valid}\n` +
    block.replace("--data rows/shelf.train.jsonl", `--data ${train}`)
      .replace("--valid rows/shelf.test.jsonl", `--valid ${valid}`);
}
