/**
 * The peer PEFT as a contestant: a Python child with PyTorch that trains on the rows it is handed.
 * It owns the child and its protocol (`bench/peers/peft_worker.py`). Development only.
 */
import { epochOrder, paceOf, placeOf } from "../../src/train/plan.ts";
import { linesOf } from "../lines.ts";
import type { Contestant, Work } from "./contest.ts";

/** What PyTorch computes in; weights are float32 in both. */
export const PEFT_DTYPES = ["float32", "bfloat16"] as const;
export type PeftDtype = typeof PEFT_DTYPES[number];

/** A running child with its model loaded: one command at a time. */
export class PeftWorker implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncGenerator<string>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#stdin = child.stdin.getWriter();
    this.#answers = linesOf(child.stdout);
  }

  /**
   * @param python with torch, transformers, peft and gguf
   * @throws {Error} where the child ends before it answers; it has said why on standard error
   */
  static async start(python: string, model: string): Promise<PeftWorker> {
    const script = new URL("../peers/peft_worker.py", import.meta.url).pathname;
    const child = new Deno.Command(python, {
      args: [script, model],
      env: { TQDM_DISABLE: "1", TRANSFORMERS_VERBOSITY: "error" },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const worker = new PeftWorker(child);
    await worker.#answer();
    return worker;
  }

  /** This peer computing in `dtype`. */
  contestant(dtype: PeftDtype): Contestant {
    return { label: `PEFT ${dtype}`, steps: (work) => this.#steps(work, dtype) };
  }

  async #steps(work: Work, dtype: PeftDtype): Promise<readonly number[]> {
    const rows = work.rows.map(({ tokens, weights }) => ({
      tokens: [...tokens],
      loss: Array.from(weights, (weight) => weight > 0 ? 1 : 0),
    }));
    const { rank } = work;
    const command = { rank, dtype, rows, batches: batchesOf(work) };
    await this.#stdin.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`));
    const { seconds } = await this.#answer();
    if (!Array.isArray(seconds)) throw new TypeError("internal: PEFT's answer has no seconds");
    return seconds;
  }

  async #answer(): Promise<Record<string, unknown>> {
    for (;;) {
      const { value, done } = await this.#answers.next();
      if (done || value === undefined) throw new Error("Cannot go on: PEFT's process has ended");
      if (!value.startsWith("{")) continue;
      const answer = JSON.parse(value);
      if (answer.error !== undefined) throw new Error(`PEFT: ${answer.error}`);
      return answer;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin.close().catch(() => {});
    await this.#child.status;
    await this.#answers.return(undefined);
  }
}

/** Rows of each step, as a job of lembas with seed 0 visits them. */
export function batchesOf({ rows, batch, epochs }: Work): readonly (readonly number[])[] {
  const counts = { epochs, batchSize: batch, learningRateMultiplier: 1 };
  const pace = paceOf(counts, rows.length, { train: 1, evaluated: 1 });
  return Array.from({ length: epochs * pace.stepsPerEpoch }, (_, step) => {
    const { epoch, from, to } = placeOf(pace, rows.length, step);
    return [...epochOrder(0, epoch, rows.length).subarray(from, to)];
  });
}
