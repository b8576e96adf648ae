/**
 * A server in a process of its own, for one device: a process holds one graphics device. It is started,
 * asked until it is ready, and started again where it ends by itself, as it does when its device fails.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

const HOST = "127.0.0.1";
/** Milliseconds between two looks at whether it is ready, and before it is started again. */
const LOOK_MS = 100;
const AGAIN_MS = 1000;

export interface DeviceServerOptions {
  /** The module that serves. */
  readonly script: URL;
  /** Its command line, without address and device. */
  readonly args: readonly string[];
  readonly device: string;
  /** Hears each line that it logs. */
  readonly onLine: (line: string) => void;
  /** Hears when it is ready, and when it has gone. */
  readonly onChange: (up: boolean) => void;
}

export class DeviceServer {
  readonly #options: DeviceServerOptions;
  #process: Deno.ChildProcess | undefined;
  #port = 0;
  #stopping = false;
  #ended: Promise<number> = Promise.resolve(0);

  constructor(options: DeviceServerOptions) {
    this.#options = options;
  }

  get port(): number {
    return this.#port;
  }

  /** Resolves with whether it became ready; false where it ended before. */
  async start(): Promise<boolean> {
    const { script, args, device, onLine, onChange } = this.#options;
    this.#port = await freePort();
    const place = ["--device", device, "--host", HOST, "--port", String(this.#port)];
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", script.pathname, ...args, ...place],
      stdin: "null",
      stdout: "inherit",
      stderr: "piped",
    }).spawn();
    this.#process = process;
    const logged = tell(process.stderr, onLine);
    this.#ended = process.status.then(async ({ code }) => {
      await logged;
      return code;
    });
    const ready = await this.#ready();
    if (ready) {
      onChange(true);
      void this.#watch();
    }
    return ready;
  }

  /** Has it finish its requests; resolves with its exit code. */
  async stop(): Promise<number> {
    this.#stopping = true;
    try {
      this.#process?.kill("SIGTERM");
    } catch { /* it has ended by itself */ }
    return await this.#ended;
  }

  async #ready(): Promise<boolean> {
    const ended = this.#ended.then(() => "ended" as const);
    while (true) {
      const asked = fetch(`http://${HOST}:${this.#port}/health`)
        .then(async (answer) => {
          await answer.body?.cancel();
          return answer.ok ? "ready" as const : "waiting" as const;
        }, () => "waiting" as const);
      const found = await Promise.race([asked, ended]);
      if (found !== "waiting") return found === "ready";
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Starts it again and again, until it is told to stop. */
  async #watch(): Promise<void> {
    await this.#ended;
    this.#options.onChange(false);
    while (!this.#stopping) {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      if (this.#stopping || await this.start()) return;
    }
  }
}

async function tell(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  onLine: (line: string) => void,
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  }
  if (rest !== "") onLine(rest);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, HOST, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
