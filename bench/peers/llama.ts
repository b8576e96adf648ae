// deno-lint-ignore-file no-console -- a program of the bench prints its measurements
/**
 * The peer llama.cpp, as an object to alternate with lembas and as a program of its own. It owns
 * how the prebuilt build is found, how the file is requantised and how the child is spoken to; the
 * child, `llama_worker.mjs`, drives the kernels. Development only: nothing of it is a dependency of
 * the project; the build (30 MB, `npm:@node-llama-cpp/<platform>`) comes into Deno's npm cache when
 * the peer is first measured, and Node must be there to run it.
 *
 *     deno run -A bench/peers/llama.ts --gguf model.gguf --types Q4_0,Q8_0,shipped
 */
import { parseArgs } from "@std/cli/parse-args";
import { PROMPT } from "../decode.ts";
import { linesOf } from "../lines.ts";
import { median, round } from "../stats.ts";

/** The release of node-llama-cpp whose prebuilt kernels are measured. */
export const ADDON_VERSION = "3.22.1";

export interface LlamaOptions {
  readonly model: string;
  readonly threads?: number;
  /** Default true, which was faster wherever it was tried. */
  readonly flashAttention?: boolean;
  /** Keys and values; float16, llama.cpp's own default, was the fastest. */
  readonly kv?: "f32" | "f16" | "q8_0";
  /** Tokens a sequence has room for (default 256). */
  readonly room?: number;
}

/** What the child answers to `decode`, `sample` and `prefill`. */
export interface Timing {
  readonly op: string;
  readonly batch: number;
  readonly tokens: number;
  /** Milliseconds of each step (decode) or of the whole (prefill). */
  readonly ms: readonly number[];
}

const KV_TYPES = { "f32": 0, "f16": 1, "q8_0": 8 } as const;

function platformName(): string {
  const systems: Record<string, string> = { linux: "linux", darwin: "mac", windows: "win" };
  const machines: Record<string, string> = { "x86_64": "x64", "aarch64": "arm64" };
  return `${systems[Deno.build.os]}-${machines[Deno.build.arch]}`;
}

/** Fetches the prebuilt addon into Deno's cache, outside the project, and says where it lies. */
async function addonFolder(): Promise<string> {
  const platform = platformName();
  const name = `npm:@node-llama-cpp/${platform}@${ADDON_VERSION}`;
  const code = `console.log((await import("${name}")).getBinsDir().binsDir)`;
  const args = ["eval", "--no-config", "--no-lock", "--node-modules-dir=none", code];
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  if (!success) {
    const said = new TextDecoder().decode(stderr);
    const reason = /^error: (.*)$/m.exec(said)?.[1] ?? lastLine(stderr);
    throw new Error(`Cannot measure llama.cpp: its build ${name} cannot be fetched: ${reason}`);
  }
  return `${new TextDecoder().decode(stdout).trim()}/${platform}`;
}

/** A running llama.cpp with its model loaded: one command at a time. */
export class Llama implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #replies: AsyncGenerator<string>;

  private constructor(child: Deno.ChildProcess, readonly label: string) {
    this.#child = child;
    this.#stdin = child.stdin.getWriter();
    this.#replies = linesOf(child.stdout);
  }

  /** @throws {Error} where Node or the prebuilt build is missing, or the file is none it can load. */
  static async start(label: string, options: LlamaOptions): Promise<Llama> {
    const settings = {
      bins: await addonFolder(),
      model: options.model,
      threads: options.threads ?? navigator.hardwareConcurrency,
      flashAttention: options.flashAttention ?? true,
      kvType: KV_TYPES[options.kv ?? "f16"],
      room: options.room ?? 256,
      microBatch: 512,
    };
    const worker = new URL("./llama_worker.mjs", import.meta.url).pathname;
    const child = new Deno.Command("node", {
      args: [worker, JSON.stringify(settings)],
      env: { UV_THREADPOOL_SIZE: "1" },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const peer = new Llama(child, label);
    await peer.#reply();
    return peer;
  }

  async #reply(): Promise<Record<string, unknown>> {
    const { value, done } = await this.#replies.next();
    if (done || value === undefined) {
      throw new Error(
        `Cannot measure llama.cpp: ${this.label} has ended; it loads GGUF files alone`,
      );
    }
    const reply = JSON.parse(value);
    if (reply.error !== undefined) throw new Error(`${this.label}: ${reply.error}`);
    return reply;
  }

  async #ask(command: string): Promise<Timing> {
    await this.#stdin.write(new TextEncoder().encode(`${command}\n`));
    return await this.#reply() as unknown as Timing;
  }

  /** Milliseconds of each decode step over `batch` sequences, after prompts of `behind` tokens. */
  async decode(batch: number, steps: number, behind = PROMPT): Promise<readonly number[]> {
    return (await this.#ask(`decode ${batch} ${steps} ${behind}`)).ms;
  }

  /** As `decode`, with a greedy token drawn for every row. */
  async sample(batch: number, steps: number, behind = PROMPT): Promise<readonly number[]> {
    return (await this.#ask(`sample ${batch} ${steps} ${behind}`)).ms;
  }

  /** Milliseconds of filling `batch` empty sequences with prompts of `length` tokens. */
  async prefill(batch: number, length: number): Promise<number> {
    return (await this.#ask(`prefill ${batch} ${length}`)).ms[0] ?? NaN;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin.close().catch(() => {});
    await this.#child.status;
    await this.#replies.return(undefined);
  }
}

/** The file in another block format, made once in `cache` by requantise.py (Python, `gguf`). */
export async function requantised(
  gguf: string,
  type: string,
  cache: string,
  python: string,
): Promise<string> {
  if (type === "shipped") return gguf;
  const name = gguf.split("/").pop()?.replace(/(\.Q\w+)?\.gguf$/, "") ?? "model";
  const path = `${cache}/${name}.${type}.gguf`;
  if (await Deno.stat(path).then(() => true, () => false)) return path;
  await Deno.mkdir(cache, { recursive: true });
  const script = new URL("./requantise.py", import.meta.url).pathname;
  const args = [script, gguf, `${path}.part`, "--type", type];
  const { success, stderr } = await Promise.try(() => new Deno.Command(python, { args }).output())
    .catch((error) => missing(error, `there is no Python '${python}': pass --python PATH`));
  if (!success) throw new Error(`Cannot requantise ${gguf}: ${lastLine(stderr)}`);
  await Deno.rename(`${path}.part`, path);
  return path;
}

/** @throws {Error} with a sentence where a program is not there, else what was thrown */
function missing(error: unknown, sentence: string): never {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
  throw new Error(`Cannot measure llama.cpp: ${sentence}`, { cause: error });
}

/** What a program says at its end, which is why it failed. */
function lastLine(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).trim().split("\n").at(-1) ?? "";
}

/** Where requantised files are kept: `LEMBAS_CACHE`, or `~/.cache/lembas`, under `peers`. */
export function peerCache(): string {
  const root = Deno.env.get("LEMBAS_CACHE") ?? `${Deno.env.get("HOME") ?? "."}/.cache/lembas`;
  return `${root}/peers`;
}

async function measure(peer: Llama, rounds: number): Promise<void> {
  await peer.decode(1, 32);
  await peer.prefill(16, 64);
  for (const batch of [1, 4, 16, 32]) {
    const steps: number[] = [];
    for (let r = 0; r < rounds; r++) steps.push(...await peer.decode(batch, 64));
    report(peer.label, "decode", batch, median(steps), batch);
  }
  for (const batch of [16, 1]) {
    const runs: number[] = [];
    for (let r = 0; r < rounds * 3; r++) runs.push(await peer.prefill(batch, 64));
    report(peer.label, "prefill", batch, median(runs), batch * 64);
  }
}

function report(peer: string, op: string, batch: number, ms: number, tokens: number): void {
  const tokensPerSecond = round(tokens / ms * 1e3, 0);
  console.log(JSON.stringify({ peer, op, batch, ms: round(ms, 2), tokensPerSecond }));
}

async function main(): Promise<void> {
  const flags = parseArgs(Deno.args, {
    string: ["gguf", "types", "python", "kv", "rounds"],
    boolean: ["flash"],
    negatable: ["flash"],
    default: { types: "Q4_0,Q8_0,shipped", python: "python3", flash: true, kv: "f16", rounds: "2" },
  });
  if (flags.gguf === undefined) throw new TypeError("Cannot measure: pass --gguf FILE");
  const kv = flags.kv as "f32" | "f16" | "q8_0";
  for (const type of flags.types.split(",")) {
    const model = await requantised(flags.gguf, type, peerCache(), flags.python);
    const label = `llama.cpp ${type}`;
    await using peer = await Llama.start(label, { model, kv, flashAttention: flags.flash });
    await measure(peer, Number(flags.rounds));
  }
}

if (import.meta.main) await main();
