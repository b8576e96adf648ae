/**
 * The server under a soak: its process, what /proc says of its memory, and what it said of itself in
 * its log. It must be asked for its memory while it runs, for its verdict after it has stopped.
 */
import { BALANCED } from "../../server/books.ts";
import { linesOf } from "../lines.ts";
import { freePort, untilItAnswers } from "../serve.ts";

/** Megabytes. */
export interface Memory {
  readonly resident: number;
  /** Without mapped files. */
  readonly anonymous: number;
}

/** How a server ended. */
export interface Verdict {
  readonly code: number;
  /** Whether it checked its books after the last request, and found them in order. */
  readonly integrity: boolean;
  /** Lines of level warning and error. */
  readonly complaints: readonly string[];
}

const MEGABYTE = 1e6;
/** Complaints that are kept. */
const KEPT = 20;

export class SoakServer implements AsyncDisposable {
  readonly url: string;
  readonly #child: Deno.ChildProcess;
  readonly #listening: Promise<void>;
  readonly #complaints: string[] = [];
  #integrity = false;

  private constructor(url: string, child: Deno.ChildProcess) {
    this.url = url;
    this.#child = child;
    this.#listening = this.#listen();
  }

  /** Starts `server/cli/serve.ts` on a free port and waits until it answers. */
  static async start(args: readonly string[]): Promise<SoakServer> {
    const port = freePort();
    const main = new URL("../../server/cli/serve.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", main, "--port", String(port), "--log-level", "info", ...args],
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const server = new SoakServer(`http://127.0.0.1:${port}`, child);
    await untilItAnswers(server.url, child);
    return server;
  }

  /** @throws {Deno.errors.NotFound} where there is no /proc */
  async memory(): Promise<Memory> {
    const status = await Deno.readTextFile(`/proc/${this.#child.pid}/status`);
    const bytes = (field: string) =>
      Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) * 1024;
    const megabytes = (field: string) => Math.round(bytes(field) / MEGABYTE);
    return { resident: megabytes("VmRSS"), anonymous: megabytes("RssAnon") };
  }

  /** Lets it finish, and says how it ended. */
  async stop(): Promise<Verdict> {
    this.#child.kill("SIGTERM");
    const { code } = await this.#child.status;
    await this.#listening;
    return { code, integrity: this.#integrity, complaints: this.#complaints };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended by itself
    }
    await this.#child.status;
  }

  async #listen(): Promise<void> {
    for await (const line of linesOf(this.#child.stderr)) {
      const [, level, message] = /^\S+ (warn|error|info) +(.*)$/.exec(line) ?? [];
      if (message === BALANCED) this.#integrity = true;
      if (level !== "info" && this.#complaints.length < KEPT) this.#complaints.push(line);
    }
  }
}
