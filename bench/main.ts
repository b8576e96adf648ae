// deno-lint-ignore-file no-console -- a program that prints what it measures
/**
 * `deno task bench`: runs one mode, tells people what it measures as it goes, and ends in one line
 * of JSON with the machine, the settings and every figure. The modes' work is in the files beside it.
 */
import { benchAnswers } from "./answers/main.ts";
import {
  compareDecode,
  comparePrefill,
  type Contestant,
  describePhase,
  type Phase,
} from "./decode.ts";
import { writeShelf } from "./cores.ts";
import { type BenchFlags, HELP, parseFlags } from "./flags.ts";
import { benchFlood } from "./flood/main.ts";
import { describeMachine } from "./machine.ts";
import { openOverhead } from "./overhead.ts";
import { ADDON_VERSION, Llama, peerCache, requantised } from "./peers/llama.ts";
import { OpenVino } from "./peers/openvino.ts";
import { benchQuality } from "./quality/main.ts";
import { benchRegistered } from "./registered/main.ts";
import { baseModelOf, benchServe, loadAdapters, type ServeFigure, ServerProcess } from "./serve.ts";
import { benchSoak } from "./soak/main.ts";
import { round, spread } from "./stats.ts";
import { Target } from "./target.ts";
import { benchTrain } from "./train/main.ts";
import { adapterCount } from "./workload.ts";

/** Tokens a row has room for at least, where it is not the question. */
const ROOM = 256;
const WIDE_ROOM = 2048;
/** Prefills of one turn. */
const REPEATS = 3;

async function decodeMode(flags: BenchFlags): Promise<readonly Phase[]> {
  using target = await Target.open(flags);
  const phases: Phase[] = [];
  const tell = (phase: Phase) => {
    phases.push(phase);
    console.log(describePhase(phase));
  };
  if (flags.only.some((one) => one !== "room")) {
    const lanes = await lembasLanes(target, flags);
    await runPhases(lanes, flags, [lanes[0]?.label ?? ""], tell);
  }
  if (flags.only.includes("room")) tell(await roomPhase(target, flags));
  return phases;
}

async function peersMode(flags: BenchFlags): Promise<readonly Phase[]> {
  using target = await Target.open(flags);
  await using stack = new AsyncDisposableStack();
  const contestants: Contestant[] = await lembasLanes(target, flags);
  const references: string[] = [];
  for (const type of flags.types) {
    const model = await requantised(target.path, type, peerCache(), flags.python);
    const label = `llama.cpp ${type}`;
    const threads = flags.threads ?? navigator.hardwareConcurrency;
    const room = roomOf(flags);
    contestants.push(stack.use(await Llama.start(label, { model, threads, room })));
    references.push(label);
  }
  if (flags.openvino !== undefined) {
    const threads = flags.threads ?? navigator.hardwareConcurrency;
    const options = { python: flags.openvino, model: target.path, threads };
    const peer = stack.use(await OpenVino.start(options));
    contestants.push(peer);
    references.push(peer.label);
  }
  const phases: Phase[] = [];
  await runPhases(contestants, flags, references, (phase) => {
    phases.push(phase);
    console.log(describePhase(phase));
  });
  return phases;
}

/** Tokens of a row that has its prompt and its steps. */
function roomOf({ behind, steps }: BenchFlags): number {
  return Math.max(ROOM, Math.max(...behind) + steps + 1);
}

/** The base and a lane for each rank; with batch 1, also the base as `--max-batch 1` has it. */
async function lembasLanes(target: Target, flags: BenchFlags): Promise<Contestant[]> {
  console.log(`loading ${target.checkpoint.id} as ${flags.dtype}`);
  const maxContext = roomOf(flags);
  const base = await target.base({ maxBatch: Math.max(16, ...flags.batches), maxContext });
  const lanes: Contestant[] = [await target.bare(base)];
  for (const rank of flags.ranks) lanes.push(await target.adapted(base, rank));
  for (const rank of flags.loras) lanes.push(...await target.withLoras(base, rank));
  if (flags.batches.includes(1)) {
    const single = await target.base({ maxBatch: 1, maxContext });
    lanes.push(await target.bare(single, `lembas ${flags.dtype}, --max-batch 1`));
  }
  return lanes;
}

async function runPhases(
  contestants: readonly Contestant[],
  flags: BenchFlags,
  references: readonly string[],
  tell: (phase: Phase) => void,
): Promise<void> {
  const turns = { rounds: flags.rounds, references };
  for (const one of contestants) {
    for (const batch of flags.batches) {
      if (batch <= (one.maxBatch ?? batch)) await one.decode(batch, 4);
    }
  }
  if (flags.only.includes("decode")) {
    for (const behind of flags.behind) {
      for (const batch of flags.batches) {
        tell(await compareDecode(contestants, batch, flags.steps, turns, behind));
      }
    }
  }
  if (flags.only.includes("prefill")) {
    for (const batch of [16, 1]) {
      tell(await comparePrefill(contestants, batch, 64, REPEATS, turns));
    }
  }
}

/** Decoding at batch 16 with room for 2,048 tokens a row against room for 256. */
async function roomPhase(target: Target, flags: BenchFlags): Promise<Phase> {
  const rooms: Contestant[] = [];
  for (const maxContext of [ROOM, WIDE_ROOM]) {
    const base = await target.base({ maxBatch: 16, maxContext });
    rooms.push(await target.bare(base, `room for ${maxContext}`));
  }
  for (const one of rooms) await one.decode(16, 4);
  const references = [`room for ${ROOM}`];
  const turns = { rounds: flags.rounds, references };
  const phase = await compareDecode(rooms, 16, flags.steps, turns);
  return { ...phase, name: "decode, batch 16, by room" };
}

async function serveMode(flags: BenchFlags): Promise<readonly ServeFigure[]> {
  await using stack = new AsyncDisposableStack();
  const url = flags.url ?? await startServer(flags, stack);
  const base = flags.base ?? await baseModelOf(url, flags.apiKey);
  const target = {
    url,
    base,
    adapter: (k: number) => flags.adapterName.replace("{}", String(k)),
    ...(flags.apiKey !== undefined && { apiKey: flags.apiKey }),
  };
  console.log(`${base} at ${url}`);
  return await benchServe(target, flags, console.log);
}

/** A server of this tree with as many adapters as the popularities name. */
async function startServer(flags: BenchFlags, stack: AsyncDisposableStack): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "lembas_bench_" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const count = Math.max(...flags.popularities.map((one) => adapterCount(one.popularity)));
  using target = await Target.open(flags);
  const shelf = await writeShelf(target.factors(flags.rank), Math.max(1, count), directory);
  const server = stack.use(
    await ServerProcess.start([
      "--model",
      target.path,
      "--dtype",
      flags.dtype,
      "--data",
      `${directory}/data`,
      "--log-level",
      "warning",
      "--adapters",
      shelf.directory,
      "--factors",
      shelf.factors,
    ]),
  );
  if (count > 0) await loadAdapters(server.url, shelf.cores);
  return server.url;
}

/** Milliseconds of a step without its model, at each batch. */
async function overheadMode(flags: BenchFlags): Promise<unknown> {
  using target = await Target.open(flags);
  const figures = [];
  for (const batch of flags.batches) {
    await using bench = openOverhead(target.checkpoint.tokenizer, batch);
    for (let warm = 0; warm < 3; warm++) await bench.run(batch, 128);
    const runs: number[] = [];
    for (let turn = 0; turn < flags.rounds * 3; turn++) runs.push(await bench.run(batch, 128));
    const ms = spread(runs, 3);
    console.log(`batch ${batch}: ${ms.median} ms a step (${ms.min}–${ms.max})`);
    figures.push({ batch, ms, microsecondsPerToken: round(ms.median / batch * 1e3, 1) });
  }
  return figures;
}

async function main(): Promise<void> {
  if (Deno.args[0] === "train") return await benchTrain(Deno.args.slice(1));
  if (Deno.args[0] === "cores") return await benchRegistered(Deno.args.slice(1));
  if (Deno.args[0] === "flood") return await benchFlood(Deno.args.slice(1));
  if (Deno.args[0] === "answers") return await benchAnswers(Deno.args.slice(1));
  if (Deno.args[0] === "quality-base") return await benchQuality(Deno.args.slice(1));
  if (Deno.args[0] === "soak") return await benchSoak(Deno.args.slice(1));
  const flags = parseFlags(Deno.args);
  if (flags === undefined) return console.log(HELP);
  const machine = await describeMachine();
  console.log(
    `${machine.cpu}, ${machine.cores} cores, Deno ${machine.deno}, ONNX Runtime ${machine.onnxruntime}`,
  );
  const modes = { decode: decodeMode, peers: peersMode, serve: serveMode, overhead: overheadMode };
  const figures = await modes[flags.mode](flags);
  const peer = flags.mode === "peers" ? { nodeLlamaCpp: ADDON_VERSION } : {};
  const { apiKey: _, ...settings } = flags;
  console.log(
    JSON.stringify({ mode: flags.mode, machine: { ...machine, ...peer }, settings, figures }),
  );
}

/** A sentence for what the user can mend; a stack where the fault is ours. */
function failureText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message.startsWith("internal:") ? error.stack ?? error.message : error.message;
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    console.error(failureText(error));
    Deno.exit(1);
  }
}
