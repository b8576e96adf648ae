/**
 * The command line of `deno task bench train`: its benches, flags, defaults and help. It owns parsing
 * and its error texts; it runs nothing.
 */
import { parseArgs } from "@std/cli/parse-args";
import { oneOf, positive, whole } from "../values.ts";
import { type Method, parseMethod } from "./trials.ts";

export const BENCHES = ["speed", "jobs", "quality", "traffic"] as const;
export type BenchName = typeof BENCHES[number];

export const HELP = `deno task bench train BENCH [flags]

benches
  speed     tokens a second of training, optimizer included, beside PEFT in turns; peak memory
  jobs      many small jobs together, one after the other, as one big job, and through PEFT
  quality   accuracy of trained cores on tasks, beside PEFT's runs; appends each run to --out
  traffic   clients that stream from a server while it trains: gaps, and what training gets

all
  --model SPEC      as the server's (default: the packaged SmolLM2)
  --data DIR        TASK.train.jsonl, TASK.valid.jsonl and TASK.test.jsonl
  --peft PYTHON     speed, jobs: a Python with torch, transformers, peft and gguf

speed
  --rounds N        turns (default 3)
  --steps N         optimizer steps of a turn (default 6)
  --ranks LIST      default 16,32
  --only LIST       text, chat (needs --data), memory (default all)

jobs
  --jobs N          default 16
  --rows N          of a job (default 200)
  --epochs N        default 1
  --batch N         rows of an optimizer step (default 16)
  --alone N         jobs measured one after the other; the rest is extrapolated (default 4)
  --peft-jobs N     jobs measured through PEFT (default 1)

quality
  --tasks LIST      default question,polarity
  --methods LIST    core or random with a rank (default core32,core16,random32)
  --seeds LIST      the first chooses the rates (default 0,1,2)
  --rates LIST      multipliers of the learning rate (default 0.5,1,2)
  --rows N          training rows (default 1000)
  --evaluated N     most rows of validation and of test (default: all)
  --epochs N        default 3
  --batch N         default 16
  --peft FILE       lines of peft_train.py quality
  --out FILE        runs, appended; one that is there is not repeated (default quality.jsonl)

traffic
  --clients N       default 8
  --requests N      of a phase (default 64)
  --prompt N, --output N  tokens (default 64)
  --train-share F   as the server's (default 0.25)

Everything but the last line is for people; the last line is JSON.`;

export const SPEED_PARTS = ["text", "chat", "memory"] as const;
export type SpeedPart = typeof SPEED_PARTS[number];

interface Common {
  /** Undefined = the packaged default. */
  readonly model: string | undefined;
}

export interface SpeedFlags extends Common {
  readonly bench: "speed";
  readonly data: string | undefined;
  /** Undefined = lembas alone. */
  readonly peft: string | undefined;
  readonly rounds: number;
  readonly steps: number;
  readonly ranks: readonly number[];
  readonly only: readonly SpeedPart[];
}

export interface JobsFlags extends Common {
  readonly bench: "jobs";
  readonly data: string;
  readonly peft: string | undefined;
  readonly jobs: number;
  readonly rows: number;
  readonly epochs: number;
  readonly batch: number;
  readonly alone: number;
  readonly peftJobs: number;
}

export interface QualityFlags extends Common {
  readonly bench: "quality";
  readonly data: string;
  readonly tasks: readonly string[];
  readonly methods: readonly Method[];
  /** At least one. */
  readonly seeds: readonly number[];
  readonly rates: readonly number[];
  readonly rows: number;
  readonly evaluated: number;
  readonly epochs: number;
  readonly batch: number;
  readonly peft: string | undefined;
  readonly out: string;
}

export interface TrafficFlags extends Common {
  readonly bench: "traffic";
  readonly data: string;
  readonly clients: number;
  readonly requests: number;
  readonly prompt: number;
  readonly output: number;
  readonly rounds: number;
  readonly trainShare: number;
}

export type TrainFlags = SpeedFlags | JobsFlags | QualityFlags | TrafficFlags;

const NAMES = [
  "model",
  "data",
  "peft",
  "rounds",
  "steps",
  "ranks",
  "only",
  "jobs",
  "rows",
  "epochs",
  "batch",
  "alone",
  "peft-jobs",
  "tasks",
  "methods",
  "seeds",
  "rates",
  "evaluated",
  "out",
  "clients",
  "requests",
  "prompt",
  "output",
  "train-share",
] as const;
type Name = typeof NAMES[number];

/**
 * Undefined where help is asked for.
 * @throws {TypeError} for an unknown bench or flag, or a value that cannot be.
 */
export function parseTrainFlags(args: readonly string[]): TrainFlags | undefined {
  const given = parseArgs([...args], {
    string: [...NAMES],
    boolean: ["help"],
    alias: { help: "h" },
    unknown: (arg, key) => {
      if (key !== undefined) throw new TypeError(`Cannot bench: there is no flag ${arg}`);
    },
  });
  const name = given._[0];
  if (given.help || name === undefined) return undefined;
  const bench = oneOf("bench", String(name), BENCHES);
  return READERS[bench](new Values((flag) => given[flag]?.toString()));
}

/** The flags that were given, read as what they should be. */
class Values {
  constructor(readonly optional: (name: Name) => string | undefined) {}

  text(name: Name, fallback: string): string {
    return this.optional(name) ?? fallback;
  }

  required(name: Name): string {
    const value = this.optional(name);
    if (value === undefined || value === "") {
      throw new TypeError(`Cannot bench: --${name} is missing, it must be given`);
    }
    return value;
  }

  list(name: Name, fallback: string): readonly string[] {
    return this.text(name, fallback).split(",").map((part) => part.trim());
  }

  count(name: Name, fallback: number): number {
    return whole(name, this.text(name, String(fallback)), 1);
  }

  number(name: Name, fallback: number): number {
    return positive(name, this.text(name, String(fallback)));
  }
}

const READERS: { readonly [B in BenchName]: (values: Values) => TrainFlags } = {
  speed: (values) => ({
    bench: "speed",
    model: values.optional("model"),
    data: values.optional("data"),
    peft: values.optional("peft"),
    rounds: values.count("rounds", 3),
    steps: values.count("steps", 6),
    ranks: values.list("ranks", "16,32").map((part) => whole("ranks", part, 1)),
    only: values.list("only", SPEED_PARTS.join()).map((part) => oneOf("--only", part, SPEED_PARTS)),
  }),
  jobs: (values) => ({
    bench: "jobs",
    model: values.optional("model"),
    data: values.required("data"),
    peft: values.optional("peft"),
    jobs: values.count("jobs", 16),
    rows: values.count("rows", 200),
    epochs: values.count("epochs", 1),
    batch: values.count("batch", 16),
    alone: values.count("alone", 4),
    peftJobs: values.count("peft-jobs", 1),
  }),
  quality: (values) => ({
    bench: "quality",
    model: values.optional("model"),
    data: values.required("data"),
    tasks: values.list("tasks", "question,polarity"),
    methods: values.list("methods", "core32,core16,random32").map(parseMethod),
    seeds: values.list("seeds", "0,1,2").map((part) => whole("seeds", part, 0)),
    rates: values.list("rates", "0.5,1,2").map((part) => positive("rates", part)),
    rows: values.count("rows", 1000),
    evaluated: values.count("evaluated", Number.MAX_SAFE_INTEGER),
    epochs: values.count("epochs", 3),
    batch: values.count("batch", 16),
    peft: values.optional("peft"),
    out: values.text("out", "quality.jsonl"),
  }),
  traffic: (values) => ({
    bench: "traffic",
    model: values.optional("model"),
    data: values.required("data"),
    clients: values.count("clients", 8),
    requests: values.count("requests", 64),
    prompt: values.count("prompt", 64),
    output: values.count("output", 64),
    rounds: values.count("rounds", 3),
    trainShare: values.number("train-share", 0.25),
  }),
};
