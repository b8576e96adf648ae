/**
 * A training file as examples: all of its lines, or a `DatasetError` and none. What a line may hold
 * is in `jsonl.ts`, how it becomes tokens in `render.ts`.
 */
import { BrokenLine, DatasetError, FaultList, WarningList } from "./faults.ts";
import { LineSplitter, type RawLine, RecordReader } from "./jsonl.ts";
import type { Example } from "../gradients/model.ts";
import type { Answers } from "./messages.ts";
import { RecordRenderer, type Row, type TextSource } from "./render.ts";

export interface DatasetOptions {
  readonly source: TextSource;
  /** Most tokens of a row. */
  readonly maxContext: number;
  /** What becomes of a longer row; `truncate` cuts its end off, saying so. Default "refuse". */
  readonly longRows?: "refuse" | "truncate";
  /** "optional": a row may be a prompt alone, which then carries no loss. Default "required". */
  readonly answers?: Answers | undefined;
}

export interface Dataset {
  /** In the file's order; at least one. */
  readonly examples: readonly Example[];
  /** For people: what was ignored, split or cut, each once with its first line. */
  readonly warnings: readonly string[];
}

/** Milliseconds of work between two turns of the event loop. */
const TURN = 10;

/**
 * Reads a whole file: OpenAI's chat fine-tuning JSONL, or prompts with completions.
 *
 * @throws {DatasetError} naming the first broken lines and how many there are
 * @throws {TypeError} for conversations where the checkpoint has no chat template
 * @throws {RangeError} where `maxContext` is no such number
 */
export function readDataset(file: Uint8Array, options: DatasetOptions): Dataset {
  const [reader, lines] = [new DatasetReader(options), new LineSplitter()];
  for (const line of lines.push(file)) reader.read(line);
  for (const line of lines.end()) reader.read(line);
  return reader.finish();
}

/**
 * The same of a file that comes in pieces: of its text no more than a piece and a line are in memory.
 * It gives way to other work every few lines.
 *
 * @throws {DatasetError | TypeError | RangeError} as `readDataset`; what `file` throws, and what
 *   `signal` was aborted with
 */
export async function readDatasetInTurns(
  file: AsyncIterable<Uint8Array>,
  options: DatasetOptions & { readonly signal?: AbortSignal },
): Promise<Dataset> {
  const [reader, lines] = [new DatasetReader(options), new LineSplitter()];
  let turn = performance.now();
  const read = async (some: Iterable<RawLine>) => {
    for (const line of some) {
      options.signal?.throwIfAborted();
      reader.read(line);
      if (performance.now() - turn < TURN) continue;
      await new Promise((resolve) => setTimeout(resolve, 0));
      turn = performance.now();
    }
  };
  for await (const piece of file) await read(lines.push(piece));
  await read(lines.end());
  options.signal?.throwIfAborted();
  return reader.finish();
}

/** General text: every token but the first carries loss. `line` says where it came from, from 1. */
export function lmExample(tokens: ArrayLike<number>, line: number): Example {
  const weights = new Float32Array(tokens.length).fill(1);
  if (weights.length > 0) weights[0] = 0;
  return { tokens: Int32Array.from(tokens), weights, line };
}

class DatasetReader {
  readonly #options: DatasetOptions;
  readonly #records: RecordReader;
  readonly #renderer: RecordRenderer;
  readonly #faults = new FaultList();
  readonly #warnings = new WarningList();
  readonly #examples: Example[] = [];
  readonly #cut = { rows: 0, tokens: 0, first: 0 };
  #lines = 0;

  constructor(options: DatasetOptions) {
    const { maxContext, source } = options;
    if (!Number.isSafeInteger(maxContext) || maxContext < 2) {
      throw new RangeError(
        `Cannot read training data: maxContext is ${maxContext}, ` +
          "it should be a whole number of 2 or more",
      );
    }
    this.#options = options;
    this.#records = new RecordReader(this.#warnings, options.answers ?? "required");
    this.#renderer = new RecordRenderer(source, this.#warnings);
  }

  read(raw: RawLine): void {
    this.#lines++;
    try {
      const rows = this.#renderer.render(this.#records.read(raw));
      const examples = rows.map((row) => this.#example(raw.line, row));
      // After a fault nothing will be trained on: no need to hold more.
      if (this.#faults.total === 0) this.#examples.push(...examples);
    } catch (error) {
      if (!(error instanceof BrokenLine)) throw error;
      this.#faults.add({ line: raw.line, reason: error.message });
    }
  }

  finish(): Dataset {
    if (this.#lines === 0) throw new DatasetError("it is empty: there are no lines to train on");
    this.#faults.check(this.#lines);
    return { examples: this.#examples, warnings: [...this.#warnings.texts(), ...this.#cutText()] };
  }

  #example(line: number, { tokens, weights }: Row): Example {
    const { maxContext } = this.#options;
    if (tokens.length > maxContext) this.#cutRow(line, tokens.length, weights);
    return {
      tokens: Int32Array.from(tokens.slice(0, maxContext)),
      weights: Float32Array.from(weights.slice(0, maxContext)),
      line,
    };
  }

  #cutRow(line: number, length: number, weights: readonly number[]): void {
    const { maxContext, longRows = "refuse" } = this.#options;
    if (longRows === "refuse") {
      throw new BrokenLine(
        `it has ${length} tokens, at most ${maxContext} fit; shorten it, or allow truncation`,
      );
    }
    const first = weights.findIndex((weight) => weight > 0);
    if (first < 0) throw new BrokenLine(`it is a prompt of ${length} tokens, which is not cut`);
    if (first >= maxContext) {
      throw new BrokenLine(
        `its first token with loss is number ${first + 1}, at most ${maxContext} fit: ` +
          "truncation would leave nothing to train on",
      );
    }
    if (this.#cut.rows === 0) this.#cut.first = line;
    this.#cut.rows++;
    this.#cut.tokens += length - maxContext;
  }

  #cutText(): readonly string[] {
    const { rows, tokens, first } = this.#cut;
    if (rows === 0) return [];
    const many = rows === 1 ? "1 row is" : `${rows} rows are`;
    return [
      `${many} cut at ${this.#options.maxContext} tokens, which loses ${tokens} ` +
      `${tokens === 1 ? "token" : "tokens"} (the first is line ${first})`,
    ];
  }
}
