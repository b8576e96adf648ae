// deno-lint-ignore-file no-console -- what a command prints is its console
/**
 * Which files of ours one streamed chat with a stored core passes, and one training job:
 * `deno run -A bench/walk.ts [SERVE.ts]`. It starts a server over a tiny model under V8's inspector
 * and counts a file where a function of it ran between two readings of the precise coverage, in the
 * server's main thread. So not counted are types, constants, and what runs in other threads (ONNX
 * Runtime's, the grammars', long texts', a job's file); but counted is what a timer runs meanwhile.
 * The chat is asked for once before, so that what is made once is there; its core is loaded anew.
 * Of a chat the files from the socket to the engine and back are told apart from the rooms that these
 * call as one would a library: checkpoint (tokenizer, template), executor, runtime, store. Likewise of a
 * job: its endpoint, the server's jobs, the trainer and the loop, and what these call.
 */

const ROOT = new URL("..", import.meta.url);
const MODEL = new URL("tests/fixtures/models/llama", ROOT).pathname;

/** A server under the inspector. */
class Server implements AsyncDisposable {
  #next = 0;
  readonly #answers = new Map<number, (result: unknown) => void>();

  private constructor(
    readonly url: string,
    readonly child: Deno.ChildProcess,
    readonly inspector: WebSocket,
  ) {
    inspector.onmessage = ({ data }) => {
      const { id, result } = JSON.parse(data);
      this.#answers.get(id)?.(result);
      this.#answers.delete(id);
    };
  }

  static async start(script: string, data: string): Promise<Server> {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--inspect=127.0.0.1:0", script, "--port", "0", "--data", data],
        ...["--model", MODEL, "--dtype", "fp32", "--max-context", "256", "--max-batch", "2"],
      ],
      env: { LEMBAS_API_KEY: "walk" },
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const wanted = [/(ws:\/\/\S+)/, /serving (http:\S+)\/v1/];
    const [socket = "", url = ""] = await firstMatches(child.stderr, wanted);
    const inspector = new WebSocket(socket);
    await new Promise((resolve) => inspector.onopen = resolve);
    const server = new Server(url, child, inspector);
    await server.#post("Profiler.enable");
    await server.#post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
    return server;
  }

  /** Files of which a function ran during `work`, below the repository's root. */
  async passedBy(work: () => Promise<void>): Promise<string[]> {
    await this.#ran();
    await work();
    return await this.#ran();
  }

  async request(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("authorization", "Bearer walk");
    const response = await fetch(`${this.url}${path}`, { ...init, headers });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  post(path: string, body: unknown): Promise<Response> {
    const headers = { "content-type": "application/json" };
    return this.request(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.inspector.close();
    this.child.kill("SIGKILL");
    await this.child.status;
  }

  #post(method: string, params: object = {}): Promise<unknown> {
    const id = this.#next++;
    this.inspector.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve) => this.#answers.set(id, resolve));
  }

  /** What has run since it was last asked: V8 then counts from nothing. */
  async #ran(): Promise<string[]> {
    const { result } = await this.#post("Profiler.takePreciseCoverage") as Coverage;
    return result.filter(({ url }) => url.startsWith(ROOT.href) && !url.includes("/node_modules/"))
      .filter(({ functions }) => functions.some(({ ranges: [whole] }) => (whole?.count ?? 0) > 0))
      .map(({ url }) => url.slice(ROOT.href.length)).sort();
  }
}

interface Coverage {
  readonly result: readonly {
    readonly url: string;
    readonly functions: readonly { readonly ranges: readonly { readonly count: number }[] }[];
  }[];
}

/** What each pattern's first group is, as soon as all have been seen; the rest is read and dropped. */
async function firstMatches(
  stream: ReadableStream<Uint8Array>,
  patterns: readonly RegExp[],
): Promise<string[]> {
  const { promise, resolve, reject } = Promise.withResolvers<string[]>();
  const read = async () => {
    let text = "";
    for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
      text = (text + piece).slice(-10_000);
      const found = patterns.map((pattern) => pattern.exec(text)?.[1] ?? "");
      if (!found.includes("")) resolve(found);
    }
    reject(new Error(`the server has ended: ${text}`));
  };
  read().catch(reject);
  return await promise;
}

/** Trains, and returns the name of what was made. */
async function train(server: Server, file: string, suffix: string): Promise<string> {
  const started = await server.post("/v1/fine_tuning/jobs", {
    model: "llama",
    training_file: file,
    suffix,
    hyperparameters: { n_epochs: 1, batch_size: 4 },
  });
  const { id } = await started.json();
  while (true) {
    const job = await (await server.request(`/v1/fine_tuning/jobs/${id}`, {})).json();
    if (job.status === "succeeded") return job.fine_tuned_model;
    if (job.status === "failed") throw new Error(`the job failed: ${JSON.stringify(job.error)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function upload(server: Server): Promise<string> {
  const rows = Array.from({ length: 8 }, (_, i) => ({ prompt: `row ${i} is`, completion: " ab." }));
  const body = new FormData();
  body.set("purpose", "fine-tune");
  body.set("file", new File([rows.map((row) => JSON.stringify(row)).join("\n")], "rows.jsonl"));
  const kept = await server.request("/v1/files", { method: "POST", body });
  return (await kept.json()).id;
}

async function chat(server: Server, model: string): Promise<void> {
  const response = await server.post("/v1/chat/completions", {
    model,
    messages: [{ role: "user", content: "hello" }],
    max_tokens: 8,
    stream: true,
  });
  if (!(await response.text()).endsWith("[DONE]\n\n")) throw new Error("the stream was cut short");
}

/** Rooms between the socket and the engine, and the engine itself. */
const OWN_WAY = /^(server|adapters\/(catalog|lotr)|src\/(engine|grammar|util))\//;

/** A training job's own rooms: its endpoint, the server's jobs, the trainer and the loop. */
const OWN_JOB = /^(server\/jobs|server\/http\/\w+\/fine_tuning|adapters\/training|src\/train)[./]/;

function print(title: string, files: readonly string[]): void {
  console.log(`\n${title}: ${files.length} files`);
  const rooms = Map.groupBy(files, (file) => file.slice(0, file.lastIndexOf("/")));
  for (const [room, own] of rooms) {
    console.log(
      `  ${room.padEnd(32)}${String(own.length).padStart(3)}  ${own.map(nameOf).join(" ")}`,
    );
  }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1).replace(/\.tsx?$/, "");
}

if (import.meta.main) {
  const [script = "server/cli/serve.ts"] = Deno.args;
  const data = await Deno.makeTempDir();
  try {
    await using server = await Server.start(new URL(script, ROOT).pathname, data);
    const file = await upload(server);
    // its factor set is made, and kept
    await train(server, file, "first");
    await chat(server, "default/first");
    const job = await server.passedBy(async () => void await train(server, file, "second"));
    const asked = await server.passedBy(() => chat(server, "default/second"));
    const way = asked.filter((file) => OWN_WAY.test(file));
    print("one streamed chat with a stored core, from the socket to the engine and back", way);
    print("what it calls there", asked.filter((file) => !OWN_WAY.test(file)));
    print("one training job, in its own rooms", job.filter((file) => OWN_JOB.test(file)));
    print("what it calls there", job.filter((file) => !OWN_JOB.test(file)));
  } finally {
    await Deno.remove(data, { recursive: true });
  }
}
