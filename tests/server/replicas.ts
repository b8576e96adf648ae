/**
 * Servers in processes of their own beside one PostgreSQL, with clients that know several of them.
 * It owns their start and end; what they are for, the tests say.
 */
import OpenAI from "openai";
import { writeCore } from "../../adapters/lotr/format.ts";
import { startPostgres } from "../adapters/store/postgres_server.ts";
import { fakeLoad, someCore } from "./engine_context.ts";
import { type EndedProcess, ServerProcess } from "./server_process.ts";

const SCRIPT = new URL("./tuning_child.ts", import.meta.url);

export interface Replica {
  readonly process: ServerProcess;
  readonly url: string;
  /** Asks this server alone, once. */
  readonly client: OpenAI;
}

export interface ReplicaOptions {
  /** Micro-batches after which training stands still. */
  readonly free?: number;
  /** Milliseconds before each micro-batch. */
  readonly stepMs?: number;
  /** Milliseconds before each run of the engine. */
  readonly runMs?: number;
  readonly trainJobs?: number;
}

/** Servers on one new database; those that still run are killed at the end. */
export class Replicas implements AsyncDisposable {
  readonly #database: string;
  readonly #running = new Set<ServerProcess>();
  readonly #stack: AsyncDisposableStack;

  private constructor(database: string, stack: AsyncDisposableStack) {
    this.#database = database;
    this.#stack = stack;
  }

  static async open(): Promise<Replicas> {
    const stack = new AsyncDisposableStack();
    const server = stack.use(await startPostgres());
    return new Replicas(await server.newDatabase(), stack);
  }

  async start({ free, stepMs, runMs, trainJobs = 4 }: ReplicaOptions = {}): Promise<Replica> {
    const env: Record<string, string> = { DATABASE_URL: this.#database };
    if (free !== undefined) env["LEMBAS_TEST_FREE"] = String(free);
    if (stepMs !== undefined) env["LEMBAS_TEST_STEP_MS"] = String(stepMs);
    if (runMs !== undefined) env["LEMBAS_TEST_RUN_MS"] = String(runMs);
    const args = ["--port", "0", "--open", "true", "--train-jobs", String(trainJobs)];
    const process = new ServerProcess(SCRIPT, { args, env });
    this.#running.add(process);
    const url = await process.url();
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
    return { process, url, client };
  }

  /** Ends a server; resolves with its exit code and its log. */
  async end({ process }: Replica, signal: Deno.Signal): Promise<EndedProcess> {
    this.#running.delete(process);
    process.kill(signal);
    return await process.ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#running) {
      process.kill("SIGKILL");
      await process.ended();
    }
    await this.#stack.disposeAsync();
  }
}

/** A client of all servers in turn; where one breaks off or refuses, the next is asked. */
export function clientOfAll(replicas: readonly Replica[]): OpenAI {
  let turn = 0;
  return new OpenAI({
    baseURL: "http://any/v1",
    apiKey: "any",
    maxRetries: 0,
    fetch: async (input, init) => {
      const { pathname, search } = new URL(String(input));
      const first = turn++;
      for (let attempt = 0;; attempt++) {
        const { url = "" } = replicas[(first + attempt) % replicas.length] ?? {};
        try {
          const response = await fetch(`${url}${pathname}${search}`, init);
          return new Response(await response.bytes(), response);
        } catch (error) {
          if (!(error instanceof TypeError) || attempt + 1 === replicas.length) throw error;
        }
      }
    },
  });
}

/** Core files for the servers' factor set, each of other numbers. */
export async function coreFiles(count: number): Promise<readonly string[]> {
  const loaded = await fakeLoad();
  const files = Array.from(
    { length: count },
    (_, seed) => writeCore(someCore(loaded.factors, seed)),
  );
  await loaded.close();
  return files.map((file) => file.toBase64());
}

/** Asks a path of a server's; the answer's status and JSON. */
export async function ask(
  { url }: Replica,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ readonly status: number; readonly json: Record<string, unknown> }> {
  const response = await fetch(`${url}${path}`, {
    method,
    headers: { "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, json: await response.json() };
}

/** Milliseconds until `check` holds, asked every few. @throws {Error} after `most` */
export async function untilHolds(check: () => Promise<boolean>, most: number): Promise<number> {
  const start = performance.now();
  while (!await check()) {
    if (performance.now() - start > most) throw new Error(`it does not hold after ${most} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return performance.now() - start;
}
