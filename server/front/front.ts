// deno-lint-ignore-file no-console -- a command's output is its console
/**
 * One address over several devices: a server in a process of its own for each (`device_server.ts`), all
 * on one PostgreSQL store, and requests handed to whichever `placement.ts` says, headers and bodies as
 * they are. Keys, limits and jobs are the servers' own.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { EndSignals } from "../cli/signals.ts";
import { ApiError } from "../errors.ts";
import { checkAddress } from "../serve.ts";
import { DeviceServer } from "./device_server.ts";
import { Placement } from "./placement.ts";

export interface FrontOptions {
  readonly script: URL;
  readonly args: readonly string[];
  readonly devices: readonly string[];
  readonly host: string;
  readonly port: number;
}

/** Bytes of a body by which requests with the same beginning are known. */
const BEGINNING = 1024;

/** Serves until a signal; resolves with the exit code. */
export async function runFront(
  { script, args, devices, host, port }: FrontOptions,
): Promise<number> {
  try {
    await checkAddress(host, port);
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    return 1;
  }
  const placement = new Placement(devices.length);
  const servers = devices.map((device, i) =>
    new DeviceServer({
      ...{ script, args, device },
      onLine: (line) => console.error(`[${i}: ${device}] ${line}`),
      onChange: (up) => {
        placement.set(i, up);
        if (!up) console.error(`[${i}: ${device}] has ended`);
      },
    })
  );
  const stop = async () => Math.max(...await Promise.all(servers.map((server) => server.stop())));
  const { promise: asked, resolve } = Promise.withResolvers<void>();
  using _signals = new EndSignals(() => resolve());
  // the first one prepares the database for the others
  for (const server of servers) {
    const ready = await Promise.race([server.start(), asked.then(() => false)]);
    if (!ready) return Math.max(1, await stop());
  }
  const http = createServer((incoming, outgoing) => {
    hand(incoming, outgoing, placement, servers).catch((error) => {
      console.error(error instanceof Error ? error.message : String(error));
      outgoing.destroy();
    });
  });
  http.listen(port, host);
  await once(http, "listening");
  const { port: open } = http.address() as AddressInfo;
  console.error(`serving http://${host}:${open}/v1 on ${devices.length} devices`);
  await asked;
  const code = await stop();
  http.close();
  http.closeAllConnections();
  return code;
}

/** Hands a request on and its answer back, as they come. */
async function hand(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  placement: Placement,
  servers: readonly DeviceServer[],
): Promise<void> {
  const own = ownAnswer(incoming, servers);
  if (own !== undefined) return answer(outgoing, own);
  const head = await beginning(incoming);
  const taken = placement.take(keyOf(incoming, head));
  if (taken === undefined) return answer(outgoing, failed("No device is ready. Please retry."));
  outgoing.once("close", taken.end);
  const { method, url: path, headers } = incoming;
  const { port } = servers[taken.server] ?? {};
  const further = request({ host: "127.0.0.1", port, method, path, headers });
  further.once("response", (given) => {
    outgoing.writeHead(given.statusCode ?? 502, given.headers);
    given.pipe(outgoing);
    given.once("error", () => outgoing.destroy());
  });
  further.once("error", () => {
    if (outgoing.headersSent) outgoing.destroy();
    else answer(outgoing, failed("The request's device was lost. Please retry."));
  });
  outgoing.once("close", () => further.destroy());
  for (const chunk of head) further.write(chunk);
  incoming.pipe(further);
}

/** The first chunks of a body, enough to know its beginning by. */
async function beginning(incoming: IncomingMessage): Promise<readonly Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  while (bytes < BEGINNING && !incoming.readableEnded) {
    const chunk: Uint8Array | null = incoming.read();
    if (chunk !== null) {
      chunks.push(chunk);
      bytes += chunk.length;
      continue;
    }
    if (incoming.readableEnded || incoming.complete && incoming.readableLength === 0) break;
    await Promise.race([once(incoming, "readable"), once(incoming, "end")]);
  }
  return chunks;
}

/** Whose request it is, and how its body begins; undefined for one without a body. */
function keyOf({ headers }: IncomingMessage, head: readonly Uint8Array[]): string | undefined {
  if (head.length === 0) return undefined;
  const hash = createHash("sha256");
  for (const name of ["authorization", "x-api-key", "lembas-tenant"]) {
    hash.update(`${headers[name] ?? ""}\n`);
  }
  let left = BEGINNING;
  for (const chunk of head) {
    hash.update(chunk.subarray(0, left));
    left = Math.max(0, left - chunk.length);
  }
  return hash.digest("hex");
}

/** What is each server's own is not handed to one of them. */
function ownAnswer(
  { url = "" }: IncomingMessage,
  servers: readonly DeviceServer[],
): ApiError | undefined {
  const path = url.split("?")[0];
  if (path === "/metrics") {
    const each = servers.map(({ port }) => `http://127.0.0.1:${port}/metrics`).join(", ");
    return new ApiError(404, `Each device's server has its own metrics: ${each}.`);
  }
  if (path !== "/v1/load_lora_adapter" && path !== "/v1/unload_lora_adapter") return undefined;
  return new ApiError(
    400,
    "An adapter that is loaded here would be on one device alone. Store it at /v1/cores, or start " +
      "with --adapters.",
    { code: "several_devices" },
  );
}

function failed(message: string): ApiError {
  return new ApiError(503, message, { code: "device_failed", headers: { "retry-after": "5" } });
}

function answer(outgoing: ServerResponse, error: ApiError): void {
  const { headers = {} } = error.details;
  outgoing.writeHead(error.status, { "content-type": "application/json", ...headers });
  outgoing.end(JSON.stringify(error.body()));
}
