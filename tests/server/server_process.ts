/**
 * A server in a process of its own, for tests of its start, its signals and its end. It owns the
 * reading of its log; what it serves the script says.
 */
export interface ProcessOptions {
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Its data directory; default: one that is removed when it has ended. Unused with DATABASE_URL. */
  readonly data?: string;
}

/** What a process has left. */
export interface EndedProcess {
  readonly code: number;
  readonly stdout: string;
  /** Of stderr. */
  readonly lines: readonly string[];
}

export class ServerProcess {
  readonly #process: Deno.ChildProcess;
  /** A data directory of its own, gone with it. */
  readonly #scratch: string | undefined;
  readonly #lines: string[] = [];
  #waiters: (() => void)[] = [];
  readonly #read: Promise<void>;

  constructor(script: URL, { args, env, data }: ProcessOptions) {
    this.#scratch = data === undefined ? Deno.makeTempDirSync() : undefined;
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", script.pathname, ...args],
      env: env?.["DATABASE_URL"] === undefined
        ? { ...env, LEMBAS_DATA: data ?? this.#scratch ?? "" }
        : env,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#read = this.#pump();
  }

  async #pump(): Promise<void> {
    let rest = "";
    for await (const text of this.#process.stderr.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      this.#lines.push(...lines);
      for (const wake of this.#waiters.splice(0)) wake();
    }
  }

  /** The first line of stderr that matches. */
  async line(pattern: RegExp): Promise<string> {
    while (true) {
      const found = this.#lines.find((line) => pattern.test(line));
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  async url(): Promise<string> {
    return /http:\S+(?=\/v1)/.exec(await this.line(/serving http/))?.[0] ?? "";
  }

  kill(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  async ended(): Promise<EndedProcess> {
    const stdout = await new Response(this.#process.stdout).text();
    const { code } = await this.#process.status;
    await this.#read;
    if (this.#scratch !== undefined) await Deno.remove(this.#scratch, { recursive: true });
    return { code, stdout, lines: this.#lines };
  }
}
