/**
 * A task's rows from `DIR/TASK.train.jsonl`, `.valid.jsonl` and `.test.jsonl`: as examples to train
 * on, and as conversations with one right answer to be judged by.
 */
import type { ChatMessage } from "../../src/checkpoint/checkpoint.ts";
import { readDataset } from "../../src/train/data/dataset.ts";
import type { Example } from "../../src/train/gradients/model.ts";
import type { TextSource } from "../../src/train/data/render.ts";

/** A conversation up to the answer that is wanted. */
export interface Judged {
  readonly messages: readonly ChatMessage[];
  readonly answer: string;
}

export interface TaskData {
  readonly task: string;
  readonly train: readonly Example[];
  readonly valid: readonly Example[];
  /** The validation rows once more, to be answered. */
  readonly judgedValid: readonly Judged[];
  readonly test: readonly Judged[];
}

export interface TaskLimits {
  /** Training rows, from the file's beginning. */
  readonly rows: number;
  /** Most rows of validation and test. */
  readonly evaluated: number;
  /** Most tokens of a row. */
  readonly maxContext: number;
}

/** @throws {DatasetError | TypeError} where a file does not hold such rows, {NotFound} where it is missing */
export async function readTask(
  directory: string,
  task: string,
  source: TextSource,
  { rows, evaluated, maxContext }: TaskLimits,
): Promise<TaskData> {
  const read = (part: string) => Deno.readFile(`${directory}/${task}.${part}.jsonl`);
  const valid = await read("valid");
  const examples = (file: Uint8Array, most: number) =>
    readDataset(file, { source, maxContext }).examples.slice(0, most);
  return {
    task,
    train: examples(await read("train"), rows),
    valid: examples(valid, evaluated),
    judgedValid: judged(valid).slice(0, evaluated),
    test: judged(await read("test")).slice(0, evaluated),
  };
}

/** The first rows of `DIR/TASK.train.jsonl` as examples. */
export async function readTraining(
  directory: string,
  task: string,
  source: TextSource,
  maxContext: number,
): Promise<readonly Example[]> {
  const file = await Deno.readFile(`${directory}/${task}.train.jsonl`);
  return readDataset(file, { source, maxContext }).examples;
}

/** A file's conversations, each up to the answer that is wanted. */
export async function readJudged(path: string): Promise<readonly Judged[]> {
  return judged(await Deno.readFile(path));
}

function judged(file: Uint8Array): readonly Judged[] {
  const lines = new TextDecoder().decode(file).split("\n").filter((line) => line.trim() !== "");
  return lines.map((line) => {
    const { messages } = JSON.parse(line) as { readonly messages: readonly ChatMessage[] };
    const answer = messages.at(-1)?.content;
    if (typeof answer !== "string") {
      throw new TypeError(`Cannot judge a row: ${line.slice(0, 80)} ends with no answer`);
    }
    return { messages: messages.slice(0, -1), answer };
  });
}
