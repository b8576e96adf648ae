/**
 * Calibration text for the `gradient` maker: general passages of our own (`general.txt` beside this
 * file: no task, no instruction to follow) or a text that a caller brings, as examples with loss on
 * every token.
 */
import { createHash } from "node:crypto";
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import { lmExample, readDataset } from "../../../src/train/data/dataset.ts";
import type { Example } from "../../../src/train/gradients/model.ts";
import type { TextSource } from "../../../src/train/data/render.ts";

/** Longer passages are cut: many short beginnings tell more of a model than few long texts. */
export const PASSAGE_TOKENS = 160;
/** What is left of a cut passage is dropped where it is shorter: too little to predict from. */
const LEAST_REST = 32;
/**
 * Most tokens of a calibration text (a minute's work); of a longer one every n-th example is taken.
 */
export const CORPUS_TOKENS = 8192;

/** The general text. Read on each call: it is wanted once in a process at most. */
export function generalText(): string {
  return Deno.readTextFileSync(new URL("general.txt", import.meta.url));
}

/** Passages of a text: what empty lines part. */
export function passagesOf(text: string): string[] {
  return text.split(/\r?\n(?:[ \t]*\r?\n)+/).map((passage) => passage.trim()).filter(Boolean);
}

/**
 * One example a passage, or several of at most 160 tokens (and no more than `maxContext`), with
 * loss on every token but the first; `line` is where the passage begins in the text.
 * @throws {TypeError} where no passage has the two tokens that a prediction needs
 */
export function textExamples(
  text: string,
  tokenizer: Tokenizer,
  maxContext: number = PASSAGE_TOKENS,
): Example[] {
  const examples: Example[] = [];
  const most = Math.min(PASSAGE_TOKENS, maxContext);
  let from = 0;
  for (const passage of passagesOf(text)) {
    from = text.indexOf(passage, from);
    const line = text.slice(0, from).split("\n").length;
    const tokens = tokenizer.encode(passage);
    for (let at = 0; at < tokens.length; at += most) {
      const part = tokens.slice(at, at + most);
      if (part.length >= (at === 0 ? 2 : LEAST_REST)) examples.push(lmExample(part, line));
    }
    from += passage.length;
  }
  if (examples.length === 0) {
    throw new TypeError("Cannot calibrate on the text: it has no passage of two tokens or more");
  }
  return examples;
}

/**
 * Examples of a caller's calibration file: plain text, passages parted by empty lines, or the JSONL
 * of training, whose loss is on the answers. What is more than 8,192 tokens in sum is thinned out.
 *
 * @throws {TypeError | RangeError | DatasetError} saying what is wrong with it
 */
export function calibrationExamples(file: Uint8Array, source: TextSource): readonly Example[] {
  const text = new TextDecoder("utf-8", { fatal: true }).decode(file);
  const { maxPositions: maxContext } = source.config;
  if (!startsWithObject(text)) return thinned(textExamples(text, source.tokenizer, maxContext));
  const { examples } = readDataset(file, { source, maxContext, longRows: "truncate" });
  return thinned(examples);
}

/** Whether the first line that is not empty is a JSON object. */
function startsWithObject(text: string): boolean {
  const [first = ""] = text.trimStart().split("\n", 1);
  if (!first.startsWith("{")) return false;
  try {
    JSON.parse(first);
    return true;
  } catch {
    return false;
  }
}

/** Every so many examples, so that about `maxTokens` remain; all of them where they fit. */
export function thinned(
  examples: readonly Example[],
  maxTokens: number = CORPUS_TOKENS,
): readonly Example[] {
  const tokens = examples.reduce((sum, { tokens }) => sum + tokens.length, 0);
  if (tokens <= maxTokens) return examples;
  const count = Math.max(1, Math.floor(examples.length * maxTokens / tokens));
  return Array.from({ length: count }, (_, i) => examples[Math.floor(i * examples.length / count)]);
}

/** SHA-256 (hex) of the examples' tokens and weights. */
export function corpusDigest(examples: readonly Example[]): string {
  const hash = createHash("sha256");
  for (const { tokens, weights } of examples) {
    hash.update(`${tokens.length}\n`);
    hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength));
    hash.update(new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength));
  }
  return hash.digest("hex");
}
