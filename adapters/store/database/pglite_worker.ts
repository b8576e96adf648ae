/**
 * PGlite's thread: SQL runs here, so that no statement holds up the event loop that decodes. It owns
 * the database's opening, its statements one after the other, and what they notify; which statements
 * form a transaction is the asker's to keep together.
 */
import { PGlite } from "@electric-sql/pglite";
import { DURABLE_START, DurableFs } from "./durable_fs.ts";
import type {
  NumberedOrder,
  PgliteOrder,
  PgliteReply,
  SqlErrorFields,
  StatementResult,
} from "./pglite_protocol.ts";
import { PgliteUpkeep } from "./pglite_upkeep.ts";

interface WorkerScope {
  onmessage: ((event: MessageEvent<NumberedOrder>) => void) | null;
  postMessage(reply: PgliteReply, transfer?: Transferable[]): void;
  close(): void;
}

interface Opened {
  readonly pg: PGlite;
  readonly upkeep: PgliteUpkeep;
  readonly listening: Map<string, () => Promise<void>>;
}

const BYTEA = 17;
const NO_RESULTS: readonly StatementResult[] = [];

async function open(
  directory: string,
  onUpkeepError: (error: unknown) => void,
): Promise<Opened> {
  const pg = await PGlite.create({
    fs: new DurableFs(directory),
    startParams: [...DURABLE_START],
    // short segments: an empty database takes megabytes less
    initDbStartParams: ["--wal-segsize=4"],
    parsers: { [BYTEA]: (text) => Uint8Array.fromHex(text.slice(2)) },
    // bytes are bound as they are: the protocol's other form is twice as long, and is parsed
    serializers: { [BYTEA]: (bytes: Uint8Array) => bytes as unknown as string },
  });
  const upkeep = new PgliteUpkeep(pg, onUpkeepError);
  await upkeep.start();
  return { pg, upkeep, listening: new Map() };
}

async function obey(
  { pg, upkeep, listening }: Opened,
  order: Exclude<PgliteOrder, { type: "open" }>,
  scope: WorkerScope,
): Promise<readonly StatementResult[]> {
  switch (order.type) {
    case "query": {
      const result = await pg.query<Record<string, unknown>>(order.text, [...order.values]);
      await upkeep.afterStatement();
      return [result].map(toResult);
    }
    case "exec": {
      const results = await pg.exec(order.text);
      await upkeep.afterStatement();
      return results.map(toResult);
    }
    case "listen": {
      const { channel } = order;
      const tell = (payload: string) => scope.postMessage({ type: "notified", channel, payload });
      listening.set(channel, await pg.listen(channel, tell));
      return NO_RESULTS;
    }
    case "unlisten":
      await listening.get(order.channel)?.();
      listening.delete(order.channel);
      return NO_RESULTS;
    case "upkeep":
      upkeep.set(order.mode);
      return NO_RESULTS;
    case "close":
      upkeep.stop();
      await pg.close();
      return NO_RESULTS;
  }
}

function toResult(
  result: { readonly rows: Record<string, unknown>[]; readonly affectedRows?: number },
): StatementResult {
  return { rows: result.rows, affectedRows: result.affectedRows };
}

/** Binary values change threads without a copy. */
function buffersOf(results: readonly StatementResult[]): Transferable[] {
  const values = results.flatMap(({ rows }) => rows.flatMap((row) => Object.values(row)));
  return values.flatMap((value) =>
    value instanceof Uint8Array && value.buffer instanceof ArrayBuffer ? [value.buffer] : []
  );
}

function toFields(error: unknown): SqlErrorFields {
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, code, detail, constraint } = error as Error & SqlErrorFields;
  return { message, code, detail, constraint };
}

/** The database itself has broken off, its memory is not sound: the thread ends with it. */
function endIfUnsound(error: unknown): void {
  if (!(error instanceof WebAssembly.RuntimeError)) return;
  // outside any promise, so that the thread's owner hears of it
  setTimeout(() => {
    throw error;
  }, 0);
}

function run(scope: WorkerScope): void {
  let opened: Promise<Opened> | undefined;
  /** Orders are obeyed one after the other, as they came. */
  let last: Promise<void> = Promise.resolve();
  const warn = (error: unknown) => {
    scope.postMessage({ type: "upkeep failed", error: toFields(error) });
    endIfUnsound(error);
  };
  const answer = async ({ id, order }: NumberedOrder) => {
    try {
      if (order.type === "open") await (opened = open(order.directory, warn));
      if (opened === undefined) throw new Error("internal: the database was not opened");
      const results = order.type === "open" ? NO_RESULTS : await obey(await opened, order, scope);
      scope.postMessage({ type: "done", id, results }, buffersOf(results));
    } catch (error) {
      scope.postMessage({ type: "failed", id, error: toFields(error) });
      endIfUnsound(error);
    }
  };
  scope.onmessage = ({ data }) => {
    last = last.then(() => answer(data));
  };
}

run(globalThis as unknown as WorkerScope);
