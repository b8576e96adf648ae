/**
 * The peer OpenVINO GenAI as a contestant beside lembas: its continuous batching over the same GGUF
 * file, in a Python of its own. It draws a greedy token for every row, as lembas does. Development
 * only: nothing of it is a dependency of the project.
 */
import { type Contestant, PROMPT } from "../decode.ts";
import { linesOf } from "../lines.ts";

export interface OpenVinoOptions {
  /** A Python with openvino-genai. */
  readonly python: string;
  readonly model: string;
  readonly threads: number;
}

/** A running pipeline: one command at a time. */
export class OpenVino implements Contestant, AsyncDisposable {
  readonly label = "OpenVINO";
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #replies: AsyncGenerator<string>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#stdin = child.stdin.getWriter();
    this.#replies = linesOf(child.stdout);
  }

  /** @throws {Error} where the Python or its package is missing, or the file is none it can load. */
  static async start({ python, model, threads }: OpenVinoOptions): Promise<OpenVino> {
    const worker = new URL("./openvino_worker.py", import.meta.url).pathname;
    const child = new Deno.Command(python, {
      args: [worker, model, "--threads", String(threads)],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const peer = new OpenVino(child);
    await peer.#reply();
    return peer;
  }

  async decode(batch: number, steps: number, behind = PROMPT): Promise<readonly number[]> {
    return await this.#ask(`decode ${batch} ${steps} ${behind}`);
  }

  async prefill(batch: number, length: number): Promise<number> {
    return (await this.#ask(`prefill ${batch} ${length}`))[0] ?? NaN;
  }

  async #ask(command: string): Promise<readonly number[]> {
    await this.#stdin.write(new TextEncoder().encode(`${command}\n`));
    return await this.#reply();
  }

  /** What an answer says of time; the pipeline draws its log on standard output, too. */
  async #reply(): Promise<readonly number[]> {
    for (;;) {
      const { value, done } = await this.#replies.next();
      if (done || value === undefined) {
        throw new Error("Cannot measure OpenVINO: its process has ended; it needs openvino-genai");
      }
      if (value.startsWith('{"op"')) return JSON.parse(value).ms ?? [];
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin.close().catch(() => {});
    await this.#child.status;
    await this.#replies.return(undefined);
  }
}
