/** The command line of training: its defaults, its refusals and sweeps. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { FlagError } from "../../../../server/cli/flags.ts";
import {
  parseTrainCommand,
  type TrainFlags,
  trainHelp,
} from "../../../../server/cli/train/flags.ts";
import {
  HYPERPARAMETER_FLAG_NAMES,
  parseSweep,
  variantLabel,
} from "../../../../server/cli/train/sweep.ts";
import { settleRank } from "../../../../adapters/training/hyperparameters.ts";

const NEEDED = ["--data", "d.jsonl", "--tenant", "acme", "--name", "shelf"];

function parse(args: readonly string[], env: Record<string, string> = {}): TrainFlags {
  const command = parseTrainCommand([...args], (name) => env[name]);
  if (command.type !== "train") throw new TypeError(`a ${command.type} command`);
  return command.flags;
}

Deno.test("training needs data, a tenant and a name, and has defaults for the rest", () => {
  assertEquals(parse(NEEDED), {
    data: "d.jsonl",
    valid: undefined,
    tenant: "acme",
    name: "shelf",
    model: undefined,
    factors: undefined,
    runs: [{
      variant: new Map(),
      hyperparameters: {
        epochs: "auto",
        batchSize: "auto",
        learningRateMultiplier: "auto",
        rank: "auto",
        method: "core",
        schedule: "cosine",
        warmup: 0.05,
        weightDecay: 0,
        clip: 1,
        patience: 6,
        seed: 0,
      },
    }],
    follow: undefined,
    maxContext: undefined,
    longRows: "refuse",
    out: "./cores",
    start: "anew",
    checkpointEvery: undefined,
    where: { type: "here" },
    output: "text",
    gate: "hold",
  });
  for (const missing of ["--data", "--tenant", "--name"]) {
    const at = NEEDED.indexOf(missing);
    const { message } = assertThrows(() => parse(NEEDED.toSpliced(at, 2)), FlagError);
    assertStringIncludes(message, missing);
  }
});

Deno.test("a teacher is followed by the defaults, or as its flags say", () => {
  const { follow } = parse([...NEEDED, "--teacher", "acme/lora"]);
  const usual = { on: "auto", count: 32, temperature: 1, maxTokens: 256 };
  assertEquals(follow, { teacher: "acme/lora", ...usual });
  const line = "--teacher ./t --on both --teacher-tokens 8 --temperature 0.5 --max-tokens 9";
  const said = { on: "both", count: 8, temperature: 0.5, maxTokens: 9 };
  assertEquals(parse([...NEEDED, ...line.split(" ")]).follow, { teacher: "./t", ...said });
});

Deno.test("every hyperparameter of training is read", () => {
  const line = "--epochs 4 --batch-size=8 --learning-rate-multiplier 1.5e-1 --rank 16 " +
    "--method lotr --schedule linear --warmup 0.1 --weight-decay .01 --clip 0.5 --patience 0 --seed 7";
  const [run] = parse([...NEEDED, ...line.split(" ")]).runs;
  assertEquals(run?.hyperparameters, {
    epochs: 4,
    batchSize: 8,
    learningRateMultiplier: 0.15,
    rank: 16,
    method: "lotr",
    schedule: "linear",
    warmup: 0.1,
    weightDecay: 0.01,
    clip: 0.5,
    patience: 0,
    seed: 7,
  });
});

Deno.test("a flag of training that cannot be is one line that says what would be right", () => {
  const cases: readonly [string, RegExp][] = [
    ["--epochs 0", /--epochs: current value is '0', .*from 1 to 10000, or auto/],
    ["--rank 65", /--rank: .*'65'.* 1 to 64/],
    ["--rank 4.5", /--rank: .*'4.5'/],
    ["--learning-rate-multiplier 0", /above 0 to 10000, or auto/],
    ["--learning-rate-multiplier NaN", /'NaN'/],
    ["--warmup 1", /from 0 to below 1/],
    ["--method lora", /core, lotr/],
    ["--schedule step", /cosine, linear, constant/],
    ["--clip=-1", /--clip: .*'-1'.* above 0/],
    ["--clip -1", /Unknown flag '-1'/],
    ["--seed", /--seed: it needs a value/],
    ["--max-context x", /--max-context: .*'x'/],
    ["--tenant a/b", /--tenant 'a\/b'/],
    ["--name x@2", /--name 'x@2'/],
    ["--name .x", /--name '.x'/],
    ["--server here", /--server: .*'here'.*http/],
    ["--lerning-rate-multiplier 2", /did you mean '--learning-rate-multiplier'/],
    ["file", /Unexpected argument 'file'/],
    ["--sweep rank=", /lacks a value/],
    ["--sweep rnk=4", /did you mean 'rank'/],
    ["--sweep rank=4;rank=8", /names rank twice/],
    ["--sweep rank=4,99", /--rank: .*'99'/],
    ["--sweep ;", /it is empty/],
    ["--sweep seed=1,2,3,4,5,6,7,8,9;epochs=1,2,3,4,5,6,7,8", /72 runs/],
    ["--server http://h --resume", /leave --resume out/],
    ["--server http://h --sweep rank=1,2", /leave --server out/],
    ["--server http://h --model m", /leave --model out/],
    ["--on sampled", /--on by itself: .*--teacher/],
    ["--temperature 1", /--temperature by itself/],
    ["--teacher t --on all", /--on: .*'all'.* given, sampled, both, auto/],
    ["--teacher t --temperature 3", /--temperature: .*'3'.* from 0 to 2/],
    ["--teacher t --teacher-tokens 0", /--teacher-tokens: .*'0'.* 1 to 1024/],
  ];
  for (const [line, message] of cases) {
    const error = assertThrows(() => parse([...NEEDED, ...line.split(" ")]), FlagError);
    assertMatch(error.message, message);
    assertEquals(error.message.includes("\n"), false);
  }
});

Deno.test("training has variables of its own, and shares those of the model and the key", () => {
  const env = {
    LEMBAS_TRAIN_DATA: "e.jsonl",
    LEMBAS_TRAIN_RANK: "16",
    LEMBAS_DATA: "the server's directory",
    LEMBAS_MODEL: "m.gguf",
    LEMBAS_API_KEY: "k",
    LEMBAS_TRAIN_SEED: "",
  };
  const flags = parse(["--tenant", "a", "--name", "b", "--rank", "4"], env);
  assertEquals([flags.data, flags.model], ["e.jsonl", "m.gguf"]);
  assertEquals(flags.runs[0]?.hyperparameters.rank, 4);
  const { LEMBAS_MODEL: _, ...rest } = env;
  const remote = parse(["--tenant", "a", "--name", "b", "--server", "http://h:1/v1/"], rest);
  assertEquals(remote.where, { type: "server", url: "http://h:1", apiKey: "k" });
});

Deno.test("a dry run needs no name and goes nowhere", () => {
  assertEquals(parse(["--data", "d", "--dry-run"]).where, { type: "nowhere" });
});

Deno.test("a sweep is every combination of its lists, each value once", () => {
  const variants = parseSweep("learning-rate-multiplier=0.5, 1; rank=16,32,16");
  assertEquals(variants.map(variantLabel), [
    "learning-rate-multiplier=0.5 rank=16",
    "learning-rate-multiplier=0.5 rank=32",
    "learning-rate-multiplier=1 rank=16",
    "learning-rate-multiplier=1 rank=32",
  ]);
  const { runs } = parse([...NEEDED, "--rank", "8", "--seed", "5", "--sweep", "rank=4,2"]);
  assertEquals(
    runs.map(({ hyperparameters: { rank, seed } }) => [rank, seed]),
    [[4, 5], [2, 5]],
  );
});

Deno.test("an automatic rank is the factor set's, at most 32; one too large is refused", () => {
  const [run] = parse(NEEDED).runs;
  assert(run !== undefined);
  const asked = run.hyperparameters;
  assertEquals([8, 64].map((rank) => settleRank(asked, rank).rank), [8, 32]);
  assertEquals(settleRank({ ...asked, rank: 40 }, 64).rank, 40);
  const error = assertThrows(() => settleRank({ ...asked, rank: 40 }, 32), RangeError);
  assertMatch(error.message, /rank 40.* 32/);
});

Deno.test("the help of training names every flag", () => {
  for (const args of [["--help"], ["-h", "--rank", "x"]]) {
    assertEquals(parseTrainCommand(args, () => undefined).type, "help");
  }
  for (
    const name of [...HYPERPARAMETER_FLAG_NAMES, "data", "sweep", "resume", "dry-run", "force"]
  ) {
    assertStringIncludes(trainHelp(), `--${name}`);
  }
});
