/** The command line of `deno task bench soak`: flags, defaults and help. It owns parsing only. */
import { parseArgs } from "@std/cli/parse-args";
import { parseBytes } from "../../src/util/bytes.ts";
import { whole } from "../values.ts";

export const HELP = `deno task bench soak [flags]

Thousands of requests of every kind against one server, and whether it is as large and as sound after
them as before: prompts short, long and with shared beginnings, several tenants' cores, streams that
are left, JSON schemas, cores loaded again in place, factor sets that come and go, requests that
cannot be. Every answer of status 5xx counts; at the end the server checks its own books. Memory is
read from /proc, so it runs on Linux.

  --requests N           default 20000: about a quarter of an hour
  --clients N            each with one request at a time (default 48)
  --every N              requests between two readings of memory (default 1000)
  --from N               the reading that the last one is held against (default 2000)
  --tenants N            default 6
  --sets N               factor sets that come and go (default 6)
  --schemas N            new JSON schemas that come first, so that what the server keeps of them is
                         full before --from (default 200, at most one for 100 requests)
  --model SPEC           as the server's (default: the packaged SmolLM2)
  --max-batch N          of the server (default: the server's)
  --kv-memory BYTES      of the server (default 512MB: full long before --from)
  --lane-memory BYTES    of the server (default 64MB: never room for all --sets)
  --seed N               default 1

Everything but the last line is for people; the last line is JSON. It fails where an answer was not
what it should be, the server's books do not balance, or, from ten times --from requests on, its memory
grew by more than 5%.`;

export interface SoakFlags {
  readonly requests: number;
  readonly clients: number;
  readonly every: number;
  readonly from: number;
  readonly tenants: number;
  readonly sets: number;
  readonly schemas: number;
  readonly model: string | undefined;
  readonly maxBatch: number | undefined;
  /** Bytes. */
  readonly kvMemory: number;
  /** Bytes. */
  readonly laneMemory: number;
  readonly seed: number;
}

const COUNTS = {
  requests: 20_000,
  clients: 48,
  every: 1000,
  from: 2000,
  tenants: 6,
  sets: 6,
  seed: 1,
} as const;
type CountName = keyof typeof COUNTS;
/** More than the server keeps compiled on all its threads. */
const SCHEMAS = 200;
const MEMORIES = ["kv-memory", "lane-memory"] as const;

/**
 * Undefined where help is asked for.
 * @throws {TypeError} for an unknown flag, or a value that cannot be.
 */
export function parseSoakFlags(args: readonly string[]): SoakFlags | undefined {
  const counts = Object.keys(COUNTS) as CountName[];
  const given = parseArgs([...args], {
    string: ["model", "max-batch", "schemas", ...MEMORIES, ...counts],
    boolean: ["help"],
    alias: { help: "h" },
    unknown: (arg) => {
      throw new TypeError(`Cannot bench: soak has no flag or argument ${arg}; see --help`);
    },
  });
  if (given.help) return undefined;
  const count = (name: CountName) => whole(name, given[name] ?? COUNTS[name]);
  const memory = (name: typeof MEMORIES[number], fallback: string) => {
    const bytes = parseBytes(given[name] ?? fallback);
    if (bytes !== undefined && bytes > 0) return bytes;
    throw new TypeError(`Cannot bench: --${name} is ${given[name]}, must be as ${fallback}`);
  };
  const maxBatch = given["max-batch"];
  const requests = count("requests");
  return {
    requests,
    clients: count("clients"),
    every: count("every"),
    from: count("from"),
    tenants: count("tenants"),
    sets: count("sets"),
    schemas: given.schemas === undefined
      ? Math.min(SCHEMAS, Math.floor(requests / 100))
      : whole("schemas", given.schemas, 0),
    model: given.model,
    maxBatch: maxBatch === undefined ? undefined : whole("max-batch", maxBatch),
    kvMemory: memory("kv-memory", "512MB"),
    laneMemory: memory("lane-memory", "64MB"),
    seed: count("seed"),
  };
}
