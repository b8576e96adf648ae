/**
 * The data files of a training: read as they come, checked before any weight is loaded, counted and
 * digested. What a line means is in `src/train/data`.
 */
import { createHash } from "node:crypto";
import { type DatasetOptions, readDatasetInTurns } from "../../../src/train/data/dataset.ts";
import type { Example } from "../../../src/train/gradients/model.ts";
import type { TextSource } from "../../../src/train/data/render.ts";
import type { TrainFlags } from "./flags.ts";
import type { DataFile } from "./report.ts";

export interface LoadedData {
  readonly file: DataFile;
  readonly examples: readonly Example[];
  readonly warnings: readonly string[];
}

/** @throws {TypeError} naming the file, and the lines that are broken. */
export async function loadData(path: string, options: DatasetOptions): Promise<LoadedData> {
  const content = await openData(path);
  const hash = createHash("sha256");
  const hashed = async function* () {
    for await (const piece of content) {
      hash.update(piece);
      yield piece;
    }
  };
  try {
    const { examples, warnings } = await readDatasetInTurns(hashed(), options);
    const file = { file: path, sha256: hash.digest("hex"), ...countsOf(examples) };
    return { file, examples, warnings: warnings.map((text) => `${path}: ${text}`) };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new TypeError(`Cannot train on ${path}: ${error.message}`, { cause: error });
  }
}

/** How the rows of a command are to be read. @throws {RangeError} where the model is shorter. */
export function dataOptions(
  { maxContext, longRows, follow }: Pick<TrainFlags, "maxContext" | "longRows" | "follow">,
  source: TextSource,
): DatasetOptions {
  const most = source.config.maxPositions;
  if ((maxContext ?? 0) > most) {
    throw new RangeError(
      `Cannot train on rows of ${maxContext} tokens: ${source.id} has at most ${most}.`,
    );
  }
  const answers = follow === undefined ? "required" : "optional";
  return { source, maxContext: maxContext ?? most, longRows, answers };
}

export function countsOf(
  examples: readonly Example[],
): { rows: number; tokens: number; lossTokens: number } {
  let [tokens, lossTokens] = [0, 0];
  for (const example of examples) {
    tokens += example.tokens.length;
    for (const weight of example.weights) if (weight > 0) lossTokens++;
  }
  return { rows: examples.length, tokens, lossTokens };
}

/** `200 rows, 5,000 tokens, 1,234 of them with loss` */
export function countsText({ rows, tokens, lossTokens }: ReturnType<typeof countsOf>): string {
  const text = (count: number) => count.toLocaleString("en-US");
  return `${text(rows)} ${rows === 1 ? "row" : "rows"}, ${text(tokens)} tokens, ${
    text(lossTokens)
  } of them with loss`;
}

/** A file's bytes. @throws {TypeError} naming the path and what is wrong with it. */
export function readData(path: string): Promise<Uint8Array<ArrayBuffer>> {
  return named(path, () => Deno.readFile(path));
}

/** A file's bytes as they are read. @throws {TypeError} as `readData` does */
export async function openData(path: string): Promise<ReadableStream<Uint8Array>> {
  const { isDirectory } = await named(path, () => Deno.stat(path));
  if (isDirectory) throw new TypeError(`Cannot read ${path}: it is a directory.`);
  return (await named(path, () => Deno.open(path))).readable;
}

async function named<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "there is no such file"
      : error instanceof Error
      ? error.message
      : String(error);
    throw new TypeError(`Cannot read ${path}: ${reason}.`, { cause: error });
  }
}
