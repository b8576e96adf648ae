/** The command line of `deno task bench cores`: flags, defaults and help. It owns parsing only. */
import { parseArgs } from "@std/cli/parse-args";
import { oneOf, positive, whole } from "../values.ts";
import { parseBytes } from "../../src/util/bytes.ts";

export const HELP = `deno task bench cores [flags]

First tokens of traffic over very many registered cores beside the same traffic over few, and what a
core costs that is not in memory. Cores are registered once; a store that is kept is used again.

  --only LIST            traffic, cold, bound (default traffic,cold)
  --model SPEC           as the server's (default: the packaged SmolLM2)
  --cores N              registered cores (default 100000: 12 GB)
  --few N                cores of the traffic beside it (default 10)
  --rank N               default 32
  --core-memory BYTES    for resident cores (default 2GB)
  --data DIR             where the store lies (default: a directory that is removed)
  --database-url URL     or a PostgreSQL server
  --rate R               requests a second (default 4)
  --requests N           of a turn (default 80)
  --rounds N             turns of each (default 3)
  --prompt N, --output N tokens (default 64 and 8)
  --loads N              cold cores to time (default 500)
  --seed N               default 1

Everything but the last line is for people; the last line is JSON.`;

export const PARTS = ["traffic", "cold", "bound"] as const;
export type Part = typeof PARTS[number];

export interface RegisteredFlags {
  readonly only: readonly Part[];
  readonly model: string | undefined;
  readonly cores: number;
  readonly few: number;
  readonly rank: number;
  readonly coreMemory: number;
  readonly data: string | undefined;
  readonly databaseUrl: string | undefined;
  readonly rate: number;
  readonly requests: number;
  readonly rounds: number;
  readonly prompt: number;
  readonly output: number;
  readonly loads: number;
  readonly seed: number;
}

const TEXTS = ["only", "model", "core-memory", "data", "database-url", "rate"] as const;
const COUNTS = {
  cores: 100_000,
  few: 10,
  rank: 32,
  requests: 80,
  rounds: 3,
  prompt: 64,
  output: 8,
  loads: 500,
  seed: 1,
} as const;
type CountName = keyof typeof COUNTS;

/**
 * Undefined where help is asked for.
 * @throws {TypeError} for an unknown flag, or a value that cannot be
 */
export function parseRegisteredFlags(args: readonly string[]): RegisteredFlags | undefined {
  const counts = Object.keys(COUNTS) as CountName[];
  const given = parseArgs([...args], {
    string: [...TEXTS, ...counts],
    boolean: ["help"],
    alias: { help: "h" },
    unknown: (arg) => {
      throw new TypeError(`Cannot bench: there is no flag ${arg}`);
    },
  });
  if (given.help) return undefined;
  const count = (name: CountName) => whole(name, given[name] ?? COUNTS[name]);
  const only = (given.only ?? "traffic,cold").split(",").map((part) =>
    oneOf("--only", part, PARTS)
  );
  const coreMemory = parseBytes(given["core-memory"] ?? "2GB");
  if (coreMemory === undefined || coreMemory <= 0) {
    throw new TypeError(`Cannot bench: --core-memory is ${given["core-memory"]}, must be as 2GB`);
  }
  return {
    only,
    model: given.model,
    coreMemory,
    data: given.data,
    databaseUrl: given["database-url"],
    rate: positive("rate", given.rate ?? 4),
    cores: count("cores"),
    few: count("few"),
    rank: count("rank"),
    requests: count("requests"),
    rounds: count("rounds"),
    prompt: count("prompt"),
    output: count("output"),
    loads: count("loads"),
    seed: count("seed"),
  };
}
