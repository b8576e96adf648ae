/**
 * The command line of `deno task bench`: modes, flags, defaults and help. It owns parsing and its
 * error texts; it runs nothing.
 */
import { parseArgs } from "@std/cli/parse-args";
import { oneOf, whole } from "./values.ts";
import type { DtypeChoice } from "../src/executor/precision.ts";
import type { Arrivals, Lengths, Popularity } from "./workload.ts";
import { parseLengths, parsePopularity } from "./workload_spec.ts";

export const MODES = ["decode", "peers", "serve", "overhead"] as const;
export type Mode = typeof MODES[number];

const DTYPES: readonly DtypeChoice[] = ["int8", "int4", "file", "fp32", "auto"];

export const HELP = `deno task bench MODE [flags]

modes
  decode    tokens a second in process: base and different cores in every row; prefill; room
  peers     the same beside llama.cpp and OpenVINO, in turns (needs Node, and Python's gguf)
  serve     the same model over HTTP under a load: first token, between tokens, throughput
  overhead  a step of everything but the model
  train     training: \`deno task bench train --help\`
  cores     very many registered cores beside few: \`deno task bench cores --help\`
  flood     first tokens beside one tenant's flood: \`deno task bench flood --help\`
  quality-base  what serving costs in perplexity: \`deno task bench quality-base --help\`
  answers   rows that adapters answer rightly: \`deno task bench answers --help\`
  soak      thousands of mixed requests, memory and soundness: \`deno task bench soak --help\`

model
  --model SPEC           as the server's (default: the packaged SmolLM2)
  --dtype NAME           ${DTYPES.join(", ")} (default int8)
  --threads N            of ONNX Runtime and of the peer (default: the physical cores)
  --rounds N             turns (default 3)

decode, peers
  --batches LIST         default 1,4,16,32
  --ranks LIST           cores' ranks (default 16,32; peers: 32)
  --loras LIST           ranks of LoRAs, different in every row: on q and v, in every second row,
                         on all linears (default none)
  --steps N              decoded tokens a turn (default 64)
  --behind LIST          tokens of each row's prompt before them (default 64)
  --only LIST            decode, prefill, room (default all; peers: decode, prefill)
  --types LIST           peers: Q4_0, Q8_0, Q4_1, shipped (default Q4_0,Q8_0)
  --python PATH          peers: a Python with gguf (default python3)
  --openvino PATH        peers: a Python with openvino-genai, to take turns, too

serve
  --url URL              a server that runs already (default: starts one)
  --base NAME            its base model (default: the first it lists)
  --adapter-name NAME    its adapters, {} for the number (default bench/a{})
  --api-key KEY
  --popularity LIST      base, identical, distinct:N, uniform:N, zipf:N:S
                         (default base,distinct:16)
  --clients N            closed loop (default 16)
  --rate R               open loop, requests a second, instead
  --requests N           a turn (default 96)
  --prompt L, --output L N, uniform:MIN:MAX or lognormal:MEDIAN:SIGMA:MAX (default 64)
  --seed N               default: the clock
  --rank N               of the cores it makes (default 32)

Everything but the last line is for people; the last line is JSON.`;

export interface BenchFlags {
  readonly mode: Mode;
  readonly model: string | undefined;
  readonly dtype: DtypeChoice;
  readonly threads: number | undefined;
  readonly rounds: number;
  readonly batches: readonly number[];
  readonly ranks: readonly number[];
  readonly loras: readonly number[];
  readonly steps: number;
  readonly behind: readonly number[];
  readonly only: readonly string[];
  readonly types: readonly string[];
  readonly python: string;
  readonly openvino: string | undefined;
  readonly url: string | undefined;
  readonly base: string | undefined;
  readonly adapterName: string;
  readonly apiKey: string | undefined;
  readonly popularities: readonly { readonly name: string; readonly popularity: Popularity }[];
  readonly arrivals: Arrivals;
  readonly requests: number;
  readonly prompt: Lengths;
  readonly output: Lengths;
  readonly seed: number;
  readonly rank: number;
}

const NAMES = [
  "model",
  "dtype",
  "threads",
  "rounds",
  "batches",
  "ranks",
  "loras",
  "steps",
  "behind",
  "only",
  "types",
  "python",
  "openvino",
  "url",
  "base",
  "adapter-name",
  "api-key",
  "popularity",
  "clients",
  "rate",
  "requests",
  "prompt",
  "output",
  "seed",
  "rank",
] as const;
type Name = typeof NAMES[number];

/**
 * Undefined where help is asked for, or no mode.
 * @throws {TypeError} for an unknown mode or flag, or a value that cannot be.
 */
export function parseFlags(args: readonly string[]): BenchFlags | undefined {
  const given = parseArgs([...args], {
    string: [...NAMES],
    boolean: ["help"],
    alias: { help: "h" },
    unknown: (arg, key) => {
      if (key !== undefined) throw new TypeError(`Cannot bench: there is no flag ${arg}`);
    },
  });
  const [asked] = given._;
  if (given.help || asked === undefined) return undefined;
  const mode = oneOf("mode", String(asked), MODES);
  const text = (name: Name, fallback: string): string => String(given[name] ?? fallback);
  const optional = (name: Name): string | undefined => given[name]?.toString();
  const count = (name: Name, fallback: string) => whole(name, text(name, fallback));
  const counts = (name: Name, fallback: string) =>
    text(name, fallback).split(",").filter((part) => part !== "")
      .map((part) => whole(name, part));
  const peers = mode === "peers";
  const threads = optional("threads");
  return {
    mode,
    model: optional("model"),
    dtype: oneOf("--dtype", text("dtype", "int8"), DTYPES),
    threads: threads === undefined ? undefined : whole("threads", threads),
    rounds: count("rounds", "3"),
    batches: counts("batches", "1,4,16,32"),
    ranks: counts("ranks", peers ? "32" : "16,32"),
    loras: counts("loras", ""),
    steps: count("steps", "64"),
    behind: counts("behind", "64"),
    only: text("only", peers ? "decode,prefill" : "decode,prefill,room").split(","),
    types: text("types", "Q4_0,Q8_0").split(","),
    python: text("python", "python3"),
    openvino: optional("openvino"),
    url: optional("url"),
    base: optional("base"),
    adapterName: text("adapter-name", "bench/a{}"),
    apiKey: optional("api-key"),
    popularities: text("popularity", "base,distinct:16").split(",").map((name) => ({
      name,
      popularity: parsePopularity(name),
    })),
    arrivals: arrivalsOf(optional("rate"), count("clients", "16")),
    requests: count("requests", "96"),
    prompt: parseLengths(text("prompt", "64")),
    output: parseLengths(text("output", "64")),
    seed: count("seed", String(Date.now() % 2 ** 31)),
    rank: count("rank", "32"),
  };
}

function arrivalsOf(rate: string | undefined, clients: number): Arrivals {
  if (rate === undefined) return { type: "closed", clients };
  const perSecond = Number(rate);
  if (!(perSecond > 0)) {
    throw new TypeError(`Cannot bench: --rate is ${rate}, must be requests a second`);
  }
  return { type: "open", rate: perSecond };
}
