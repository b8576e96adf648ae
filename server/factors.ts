/**
 * `deno task factors`: makes factor sets and shows what a factor or core file holds. It owns flags
 * and words; the mathematics is `adapters/makers.ts`'.
 */
// deno-lint-ignore-file no-console -- an entry point: its output is the console
import { parseArgs } from "@std/cli/parse-args";
import {
  DEFAULT_MODULES,
  DEFAULT_RANK,
  FactorSet,
  fileKind,
  gaussianFactors,
  type MakerName,
  MAKERS,
  MAX_RANK,
  parseModules,
  randomFactors,
  readCore,
  readFactors,
  stackOf,
  svdFactors,
  writeFactors,
  writePeftDirectory,
} from "../adapters/mod.ts";
import type { Checkpoint } from "../src/checkpoint/checkpoint.ts";
import type { ModuleName } from "../src/models/hook.ts";

const HELP = `Make a factor set:
  deno task factors make --out FILE [--model SPEC] [--maker ${MAKERS.join("|")}]
                    [--rank 1-${MAX_RANK}, default ${DEFAULT_RANK}] [--seed N, default 0]
                    [--modules ${DEFAULT_MODULES.join(",")}] [--float16]
Show a factor or core file:
  deno task factors inspect FILE...
Write a core as a PEFT LoRA directory:
  deno task factors export --core FILE --factors FILE --out DIR [--base NAME]

random    A and B orthonormal, spanning random directions; needs no weights (default)
gaussian  A and B ~ N(0, 1) and s = 1/rank, as in arXiv 2402.01376
svd       the leading directions of the stacked weights (Tucker-2); seconds for q and v, minutes for all
`;

export interface MakeFlags {
  readonly model: string | undefined;
  readonly maker: MakerName;
  readonly rank: number;
  readonly modules: readonly ModuleName[];
  readonly seed: number;
  readonly storage: "float32" | "float16";
  readonly out: string;
}

export interface ExportFlags {
  readonly core: string;
  readonly factors: string;
  /** The directory to write. */
  readonly out: string;
  /** What PEFT users load the base by. */
  readonly baseModel: string;
}

/** What a command line asks for. */
export type FactorsCommand =
  | { readonly type: "help" }
  | { readonly type: "make"; readonly flags: MakeFlags }
  | { readonly type: "inspect"; readonly files: readonly string[] }
  | { readonly type: "export"; readonly flags: ExportFlags };

/**
 * Reads a command line.
 * @throws {TypeError | RangeError} with one line that says what is wrong and what would be right
 */
export function parseFactorsCommand(args: readonly string[]): FactorsCommand {
  const flags = parseFlags(args);
  const [command, ...rest] = flags._.map(String);
  if (flags.help || command === undefined) return { type: "help" };
  if (command === "inspect") {
    if (rest.length === 0) refuse("inspect needs a file");
    return { type: "inspect", files: rest };
  }
  if (rest.length > 0) refuse(`'${rest[0]}' is no flag`);
  if (command === "make") return { type: "make", flags: makeFlags(flags) };
  if (command !== "export") refuse(`unknown command '${command}'`);
  const core = flags.core || refuse("--core is missing: a core file");
  const factors = flags.factors || refuse("--factors is missing: its factor file");
  const out = flags.out || refuse("--out is missing: the directory to write");
  return { type: "export", flags: { core, factors, out, baseModel: flags.base } };
}

function parseFlags(args: readonly string[]) {
  return parseArgs([...args], {
    string: ["base", "core", "factors", "maker", "model", "modules", "out", "rank", "seed"],
    boolean: ["float16", "help"],
    alias: { help: "h" },
    default: {
      base: "HuggingFaceTB/SmolLM2-135M-Instruct",
      maker: "random",
      rank: `${DEFAULT_RANK}`,
      modules: DEFAULT_MODULES.join(),
      seed: "0",
    },
    unknown: (arg, key) => key === undefined ? undefined : refuse(`unknown flag ${arg}`),
  });
}

function makeFlags(flags: ReturnType<typeof parseFlags>): MakeFlags {
  const maker = MAKERS.find((name) => name === flags.maker);
  if (maker === undefined) refuse(`--maker is '${flags.maker}', known are ${MAKERS.join(", ")}`);
  return {
    model: flags.model,
    maker,
    rank: whole("rank", flags.rank, MAX_RANK),
    modules: parseModules(flags.modules.split(",")),
    seed: whole("seed", flags.seed, 2 ** 32 - 1),
    storage: flags.float16 ? "float16" : "float32",
    out: flags.out || refuse("--out is missing: the file to write"),
  };
}

/** Makes the factor set that the flags ask for; `progress` hears of each weight. */
export async function makeFactors(
  checkpoint: Checkpoint,
  flags: MakeFlags,
  progress: (done: number, total: number, what: string) => void,
): Promise<FactorSet> {
  const stack = stackOf(await checkpoint.digest(), checkpoint.config);
  const { rank, modules, seed } = flags;
  switch (flags.maker) {
    case "random":
      return randomFactors({ stack, rank, modules, seed });
    case "gaussian":
      return gaussianFactors({ stack, rank, modules, seed });
    case "svd":
      return svdFactors({ stack, rank, modules, weights: checkpoint.weights, progress });
  }
}

/** One file as JSON for people and scripts. @throws as the readers of the two formats do. */
export function describeFile(bytes: Uint8Array): Record<string, unknown> {
  const kind = fileKind(bytes);
  if (kind === undefined) throw new TypeError("it is neither a factor nor a core file of lembas");
  const content = kind === "core" ? readCore(bytes) : readFactors(bytes);
  const { digest, base, layers, rank, alpha, modules } = content;
  const own = content instanceof FactorSet
    ? { residentBytes: content.residentBytes }
    : { factors: content.factors };
  return { kind, digest, base, layers, rank, alpha, modules, ...own, fileBytes: bytes.length };
}

async function make(flags: MakeFlags): Promise<void> {
  const { openCheckpoint } = await import("../src/checkpoint/open.ts");
  const { resolveModel } = await import("../src/checkpoint/resolve.ts");
  using checkpoint = await openCheckpoint(await resolveModel(flags.model));
  const factors = await makeFactors(checkpoint, flags, showProgress);
  const bytes = writeFactors(factors, flags.storage);
  await Deno.writeFile(flags.out, bytes);
  console.log(JSON.stringify({ out: flags.out, ...describeFile(bytes) }));
}

async function inspect(files: readonly string[]): Promise<void> {
  for (const file of files) {
    const bytes = await Deno.readFile(file);
    try {
      console.log(JSON.stringify({ file, ...describeFile(bytes) }));
    } catch (error) {
      throw new TypeError(`${file}: ${error instanceof Error ? error.message : error}`);
    }
  }
}

async function exportCore({ core, factors, out, baseModel }: ExportFlags): Promise<void> {
  const [coreBytes, factorBytes] = [await Deno.readFile(core), await Deno.readFile(factors)];
  const content = readCore(coreBytes);
  await writePeftDirectory(out, content, readFactors(factorBytes), { baseModel });
  console.log(JSON.stringify({ out, core: content.digest, rank: content.rank }));
}

function showProgress(done: number, total: number, what: string): void {
  const text = `${done}/${total} ${what}`;
  if (Deno.stderr.isTerminal()) {
    Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${text}${done === total ? "\n" : ""}`));
  } else if (done === total || done % 20 === 0) console.error(text);
}

function whole(name: string, text: string, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(value <= most)) refuse(`--${name} is '${text}', a whole number up to ${most} is wanted`);
  return value;
}

function refuse(what: string): never {
  throw new TypeError(`Cannot follow the command line: ${what}; --help shows what there is`);
}

async function main(args: readonly string[]): Promise<void> {
  const command = parseFactorsCommand(args);
  switch (command.type) {
    case "help":
      return console.log(HELP);
    case "make":
      return await make(command.flags);
    case "inspect":
      return await inspect(command.files);
    case "export":
      return await exportCore(command.flags);
  }
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exit(1);
  }
}
