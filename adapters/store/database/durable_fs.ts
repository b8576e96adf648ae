/**
 * PGlite's file system with a working fsync: what PostgreSQL syncs is synced, so that a commit
 * survives a loss of power. It owns that one call; the rest is PGlite's.
 */
import { PGlite } from "@electric-sql/pglite";
import { NodeFS } from "@electric-sql/pglite/nodefs";
import { fsyncSync } from "node:fs";

type Options = Parameters<NodeFS["init"]>[1];
type Module = Parameters<NonNullable<Options["preRun"]>[number]>[0];

/** Of Emscripten's streams over files of the machine. */
interface NodeStream {
  readonly nfd?: number;
}

export class DurableFs extends NodeFS {
  override async init(pg: PGlite, options: Options): ReturnType<NodeFS["init"]> {
    const { emscriptenOpts } = await super.init(pg, options);
    const preRun = [...emscriptenOpts.preRun ?? [], giveSync];
    return { emscriptenOpts: { ...emscriptenOpts, preRun } };
  }
}

function giveSync({ NODEFS }: Module): void {
  const operations = NODEFS as unknown as {
    stream_ops: { fsync?: (stream: NodeStream) => number };
  };
  operations.stream_ops.fsync = ({ nfd }) => {
    if (nfd !== undefined) fsyncSync(nfd);
    return 0;
  };
}

/** Of PGlite's start: without "-F", which turns fsync off; its fdatasync does nothing. */
export const DURABLE_START: readonly string[] = [
  ...PGlite.defaultStartParams.filter((parameter) => parameter !== "-F"),
  ...["-c", "wal_sync_method=fsync"],
];
