/** Reads a file's lines from its end, block by block. It knows nothing of what they say. */
import { ifThere } from "./data_directory.ts";

const BLOCK = 1 << 16;
const NEWLINE = 10;

/** Lines that are not empty, the last one first; none where there is no such file. */
export async function* linesBackward(path: string, block = BLOCK): AsyncGenerator<string> {
  using file = await ifThere(Deno.open(path, { read: true }));
  if (file === undefined) return;
  let end = (await file.stat()).size;
  /** The start of a line whose beginning is in an earlier block. */
  let rest = new Uint8Array();
  while (end > 0) {
    const start = Math.max(0, end - block);
    const bytes = await readBetween(file, start, end, rest);
    const whole = start === 0 ? 0 : bytes.indexOf(NEWLINE) + 1;
    end = start;
    // without a newline all of it is one line's middle
    rest = start > 0 && whole === 0 ? bytes : bytes.slice(0, whole);
    if (start > 0 && whole === 0) continue;
    const text = new TextDecoder().decode(bytes.subarray(whole));
    yield* text.split("\n").filter((line) => line !== "").reverse();
  }
}

/** Bytes of a file from `start` to `end`, and `rest` behind them. */
async function readBetween(
  file: Deno.FsFile,
  start: number,
  end: number,
  rest: Uint8Array,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(end - start + rest.length);
  bytes.set(rest, end - start);
  await file.seek(start, Deno.SeekMode.Start);
  for (let at = 0; at < end - start;) {
    const read = await file.read(bytes.subarray(at, end - start));
    if (read === null) throw new RangeError("internal: the file has become shorter");
    at += read;
  }
  return bytes;
}
