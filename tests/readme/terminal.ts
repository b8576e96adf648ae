/**
 * A reader's terminal: runs README.md's shell blocks one after the other in a fresh copy of the tree,
 * with an empty home. What a block exports stays for the next one; a server that a block starts goes
 * on until another is started.
 *
 * A block runs as it is written, but for: the port 8000, which is a free one; the key `lmb_...`, which
 * is the one that the server has printed; `npx -y deno` where npx is not there; and `deno task test`,
 * which would run itself.
 */
import { assert } from "@std/assert";
import { cacheDirectory } from "../../src/util/cache_directory.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** What is kept of a base, and is not to be made anew for each test. */
const KEPT = ["models", "digests", "smoothing", "factors"];

const SERVE = /^npx -y deno task serve\b.*$/;
const TEST = /^npx -y deno task (test)\b/;

export class Terminal implements AsyncDisposable {
  readonly #port: number;
  readonly #home: string;
  readonly #variables: string;
  #server: Deno.ChildProcess | undefined;
  /** What the server has written to its output. */
  #said = "";

  private constructor(
    /** The copy of the tree that commands run in. */
    readonly folder: string,
    port: number,
  ) {
    this.#port = port;
    this.#home = `${folder}.home`;
    this.#variables = `${folder}.env`;
  }

  static async open(): Promise<Terminal> {
    const folder = await Deno.makeTempDir({ prefix: "lembas-readme-" });
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const terminal = new Terminal(folder, listener.addr.port);
    await copyTree(folder);
    await linkHome(terminal.#home);
    await Deno.writeTextFile(terminal.#variables, "");
    return terminal;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Runs a block; what it wrote to its output. Every command but the last of a pipe must succeed. */
  async run(block: string): Promise<string> {
    let output = "";
    let rest: string[] = [];
    const finish = async () => {
      output += await this.#script(rest.join("\n"));
      rest = [];
    };
    for (const line of block.replaceAll("\\\n", " ").split("\n")) {
      if (TEST.test(line)) continue;
      if (!SERVE.test(line)) {
        rest.push(line);
        continue;
      }
      await finish();
      await this.#serve(line);
    }
    await finish();
    return output;
  }

  async #script(text: string): Promise<string> {
    const lines = [
      "set -e",
      `source '${this.#variables}'`,
      this.#rewritten(text),
      `export -p > '${this.#variables}'`,
    ];
    const { success, stdout, stderr } = await this.#bash(lines.join("\n")).output();
    const [output, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assert(success, `This block failed:\n${text}\n${output}\n${errors}`);
    return output ?? "";
  }

  /** The text as it runs here. */
  #rewritten(text: string): string {
    const key = /lmb_\w{20,}/.exec(this.#said)?.[0];
    const own = text.replaceAll("127.0.0.1:8000", `127.0.0.1:${this.#port}`)
      .replaceAll("lmb_...", key ?? "lmb_...");
    return hasNpx() ? own : own.replaceAll("npx -y deno", `'${Deno.execPath()}'`);
  }

  #bash(script: string, options: Deno.CommandOptions = {}): Deno.Command {
    return new Deno.Command("bash", {
      ...options,
      args: ["-c", script],
      cwd: this.folder,
      env: {
        LEMBAS_HOME: this.#home,
        LEMBAS_PORT: String(this.#port),
        LEMBAS_SERVER: this.url,
        NO_COLOR: "1",
      },
    });
  }

  /** Starts a server in place of the one before, and waits until it answers. */
  async #serve(line: string): Promise<void> {
    await this.#stop();
    const script = `source '${this.#variables}'\nexec ${this.#rewritten(line)}`;
    const child = this.#bash(script, { stdout: "piped", stderr: "piped", detached: true }).spawn();
    this.#server = child;
    this.#said = "";
    const ended = Promise.all([child.stdout, child.stderr].map((stream) => this.#listen(stream)));
    let over = false;
    ended.then(() => over = true);
    while (await this.#readiness() !== 200) {
      assert(!over, `The server ended: ${line}\n${this.#said}`);
      await moment();
    }
  }

  async #listen(stream: ReadableStream<Uint8Array>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) this.#said += text;
  }

  /** The status of `/ready`; undefined where nobody listens. */
  async #readiness(): Promise<number | undefined> {
    try {
      const response = await fetch(`${this.url}/ready`);
      await response.body?.cancel();
      return response.status;
    } catch (error) {
      if (error instanceof TypeError) return undefined;
      throw error;
    }
  }

  async #stop(): Promise<void> {
    if (this.#server === undefined) return;
    // npx and deno task have children of their own; those that failed are gone already
    try {
      Deno.kill(-this.#server.pid, "SIGTERM");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    await this.#server.status;
    // the one that has the port may be the last to go
    while (await this.#readiness() !== undefined) await moment();
    this.#server = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    for (const path of [this.folder, this.#home, this.#variables]) {
      await Deno.remove(path, { recursive: true });
    }
  }
}

function moment(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 50));
}

function hasNpx(): boolean {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return folders.some((folder) => {
    try {
      return Deno.statSync(`${folder}/npx`).isFile;
    } catch {
      return false;
    }
  });
}

/** Every file of the working tree that git knows, or would add. */
async function copyTree(folder: string): Promise<void> {
  const script = `git ls-files -z --cached --others --exclude-standard |
    xargs -0 cp --parents --target-directory='${folder}'`;
  const { success, stderr } = await new Deno.Command("bash", { args: ["-c", script], cwd: ROOT })
    .output();
  assert(success, new TextDecoder().decode(stderr));
}

/** An empty home but for the base model that is there already. */
async function linkHome(home: string): Promise<void> {
  const cache = cacheDirectory();
  await Deno.mkdir(home, { recursive: true });
  for (const name of KEPT) {
    await Deno.mkdir(`${cache}/${name}`, { recursive: true });
    await Deno.symlink(`${cache}/${name}`, `${home}/${name}`);
  }
}
