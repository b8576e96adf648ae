/**
 * The command line of `deno task bench flood`: flags, defaults and help. It owns parsing and its
 * error texts; it runs nothing.
 */
import { parseArgs } from "@std/cli/parse-args";
import { oneOf, positive, whole } from "../values.ts";

export const HELP = `deno task bench flood [flags]

Some tenants send requests now and then while another one sends as many as it can. Phases in turns:
the others alone (quiet), beside the flood, and beside it with all as one tenant (first come, first
served). What the others' first tokens take in each, and what the flood gets.

  --url URL              a server that runs already, in open mode (default: starts one)
  --model SPEC           as the server's (default: the packaged SmolLM2)
  --max-batch N          of the server it starts (default: the server's)
  --tenants N            others (default 4)
  --rate R               requests a second of each of them, Poisson (default 0.5)
  --prompt N, --output N tokens of theirs (default 64, 16)
  --clients N            of the flood, each with one request at a time (default 64)
  --flood-prompt N, --flood-output N  tokens of its requests (default 64, 256)
  --seconds N            of a phase (default 20)
  --rounds N             turns (default 3)
  --only LIST            quiet, flood, shared (default all)
  --seed N               default 1

Everything but the last line is for people; the last line is JSON.`;

export const PHASES = ["quiet", "flood", "shared"] as const;
/** quiet: no flood; flood: the flood is a tenant of its own; shared: everyone is one tenant. */
export type Phase = typeof PHASES[number];

export interface FloodFlags {
  readonly url: string | undefined;
  /** Undefined = the packaged default. */
  readonly model: string | undefined;
  readonly maxBatch: number | undefined;
  readonly tenants: number;
  /** Requests a second of each tenant. */
  readonly rate: number;
  readonly prompt: number;
  readonly output: number;
  readonly clients: number;
  readonly floodPrompt: number;
  readonly floodOutput: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly only: readonly Phase[];
  readonly seed: number;
}

const NAMES = [
  "url",
  "model",
  "max-batch",
  "tenants",
  "rate",
  "prompt",
  "output",
  "clients",
  "flood-prompt",
  "flood-output",
  "seconds",
  "rounds",
  "only",
  "seed",
] as const;
type Name = typeof NAMES[number];

/**
 * Undefined where help is asked for.
 * @throws {TypeError} for an unknown flag or a value that cannot be.
 */
export function parseFloodFlags(args: readonly string[]): FloodFlags | undefined {
  const given = parseArgs([...args], {
    string: [...NAMES],
    boolean: ["help"],
    alias: { help: "h" },
    unknown: (arg) => {
      throw new TypeError(`Cannot bench: flood has no flag or argument ${arg}; see --help`);
    },
  });
  if (given.help) return undefined;
  const count = (name: Name, fallback: number) => whole(name, given[name] ?? fallback);
  return {
    url: given.url,
    model: given.model,
    maxBatch: given["max-batch"] === undefined ? undefined : count("max-batch", 1),
    tenants: count("tenants", 4),
    rate: positive("rate", given.rate ?? 0.5),
    prompt: count("prompt", 64),
    output: count("output", 16),
    clients: count("clients", 64),
    floodPrompt: count("flood-prompt", 64),
    floodOutput: count("flood-output", 256),
    seconds: positive("seconds", given.seconds ?? 20),
    rounds: count("rounds", 3),
    only: (given.only ?? PHASES.join()).split(",").map((part) =>
      oneOf("--only", part.trim(), PHASES)
    ),
    seed: count("seed", 1),
  };
}
