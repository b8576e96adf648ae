/**
 * What README.md, CONTRIBUTING.md and the commands' own help name is there: flags, modes, endpoints,
 * variables. Each flag of a help must parse, each command line in a document must be one.
 */
import { assert, assertEquals } from "@std/assert";
import { HELP as ANSWERS_HELP, parseAnswersFlags } from "../bench/answers/flags.ts";
import { HELP as BENCH_HELP, MODES, parseFlags as parseBench } from "../bench/flags.ts";
import { HELP as FLOOD_HELP, parseFloodFlags } from "../bench/flood/flags.ts";
import { GPU_HELP, parseGpuFlags } from "../bench/gpu/flags.ts";
import { HELP as QUALITY_HELP, parseQualityFlags } from "../bench/quality/flags.ts";
import { HELP as CORES_HELP, parseRegisteredFlags } from "../bench/registered/flags.ts";
import { HELP as SOAK_HELP, parseSoakFlags } from "../bench/soak/flags.ts";
import { BENCHES, HELP as TRAIN_BENCH_HELP, parseTrainFlags } from "../bench/train/flags.ts";
import { adminHelp, parseAdmin } from "../server/cli/admin/flags.ts";
import { DOCTOR_HELP, parseDoctor } from "../server/cli/doctor.ts";
import { parseFactorsCommand } from "../server/cli/factors/flags.ts";
import { FACTORS_HELP } from "../server/cli/factors/help.ts";
import { MODELS_HELP, parseModels } from "../server/cli/models.ts";
import { helpText, parseFlags } from "../server/cli/serve_flags.ts";
import { parseSetupCuda, SETUP_CUDA_HELP } from "../server/cli/setup_cuda.ts";
import { parseTrainCommand, trainHelp } from "../server/cli/train/flags.ts";
import { openKeyedApp } from "./server/keyed_app.ts";

const ROOT = new URL("../", import.meta.url);
const DOCUMENTS = ["README.md", "CONTRIBUTING.md", "deploy/README.md", "bench/peers/README.md"];

interface Command {
  readonly help: string;
  /** @throws where a flag is not one of its flags, or something else is wrong with the line */
  readonly parse: (args: readonly string[]) => unknown;
}

const noEnv = () => undefined;

/** By the words behind `deno task`, and scripts. */
const COMMANDS: Readonly<Record<string, Command>> = {
  serve: { help: helpText(), parse: (args) => parseFlags(args, noEnv) },
  train: { help: trainHelp(), parse: (args) => parseTrainCommand(args, noEnv) },
  factors: { help: FACTORS_HELP, parse: parseFactorsCommand },
  admin: { help: adminHelp(), parse: (args) => parseAdmin(args, noEnv) },
  models: { help: MODELS_HELP, parse: parseModels },
  doctor: { help: DOCTOR_HELP, parse: parseDoctor },
  "setup:cuda": { help: SETUP_CUDA_HELP, parse: parseSetupCuda },
  "bench train": { help: TRAIN_BENCH_HELP, parse: parseTrainFlags },
  "bench cores": { help: CORES_HELP, parse: parseRegisteredFlags },
  "bench answers": { help: ANSWERS_HELP, parse: parseAnswersFlags },
  "bench flood": { help: FLOOD_HELP, parse: parseFloodFlags },
  "bench quality-base": { help: QUALITY_HELP, parse: parseQualityFlags },
  "bench soak": { help: SOAK_HELP, parse: parseSoakFlags },
  "bench/gpu.sh": { help: GPU_HELP, parse: parseGpuFlags },
  bench: { help: BENCH_HELP, parse: parseBench },
};

/** What the parsers say of a flag that they do not know. */
const UNKNOWN = /unknown flag|no flag|there is no|is no flag/i;

async function documents(): Promise<readonly { readonly path: string; readonly text: string }[]> {
  const found = [];
  for (const path of DOCUMENTS) {
    const text = await Deno.readTextFile(new URL(path, ROOT)).catch(() => undefined);
    if (text !== undefined) found.push({ path, text });
  }
  return found;
}

function flagsIn(text: string): readonly string[] {
  return [
    ...new Set(
      Array.from(text.matchAll(/(?<![\w-])--([a-z][a-z0-9-]*)/g), ([, name]) => name ?? ""),
    ),
  ];
}

/** What a command line is refused with; undefined where it is followed. */
function refusal(command: Command | undefined, args: readonly string[]): string | undefined {
  try {
    command?.parse(args);
    return command === undefined ? "there is no such command" : undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function isUnknown(command: Command, flag: string): boolean {
  return UNKNOWN.test(refusal(command, [`--${flag}`, "1"]) ?? "");
}

Deno.test("each flag that a command's help names is one that it takes", () => {
  for (const [name, command] of Object.entries(COMMANDS)) {
    assert(isUnknown(command, "no-such-flag"), `${name} takes any flag`);
    // "deno task serve --adapters" in another command's help is serve's
    const others = new RegExp(`deno task (?!${name}\\b)\\w+( --[\\w-]+)*`, "g");
    const flags = flagsIn(command.help.replaceAll(others, ""));
    assert(flags.length > 0, name);
    assertEquals(flags.filter((flag) => isUnknown(command, flag)), [], name);
  }
});

Deno.test("the bench's help names each of its modes, and each has a help that says so", () => {
  for (const mode of [...MODES, "train", "cores", "flood", "soak", "quality-base", "answers"]) {
    assert(new RegExp(`^  ${mode} `, "m").test(BENCH_HELP), mode);
  }
  for (const bench of BENCHES) assert(TRAIN_BENCH_HELP.includes(`\n  ${bench} `), bench);
});

/** The words of a shell's line, quotes taken off, up to a comment. */
function wordsOf(line: string): readonly string[] {
  return Array.from(
    line.replace(/\s#.*$/, "").matchAll(/"([^"]*)"|(\S+)/g),
    ([, quoted, plain]) => quoted ?? plain ?? "",
  );
}

/** The command of a line behind `deno task`, and what is left for it. */
function commandOf(words: readonly string[]): readonly [string, readonly string[]] {
  const two = words.slice(0, 2).join(" ");
  return two in COMMANDS ? [two, words.slice(2)] : [words[0] ?? "", words.slice(1)];
}

/** `deno task …` of a document's shell blocks and code spans, continued lines joined. */
function linesOf(text: string): readonly string[] {
  const blocks = Array.from(text.matchAll(/^```sh\n(.*?)^```$/gms), ([, block]) => block ?? "");
  const spans = Array.from(
    text.matchAll(/`([^`\n]*deno task [^`\n]*)`/g),
    ([, span]) => span ?? "",
  );
  return [...blocks.join("").replaceAll("\\\n", " ").split("\n"), ...spans]
    .flatMap((line) => /deno task (.*)$/.exec(line)?.[1] ?? []);
}

/** Tasks without flags of their own. */
const PLAIN: ReadonlySet<string> = new Set(["test", "ok", "test:fast"]);

Deno.test("each command line in a document is one that its command follows", async () => {
  let seen = 0;
  for (const { path, text } of await documents()) {
    for (const line of linesOf(text)) {
      const [name, args] = commandOf(wordsOf(line));
      if (PLAIN.has(name) || args.length === 0 || /[…]|^[A-Z]+$/.test(args.at(-1) ?? "")) continue;
      seen++;
      // "deno task admin tenants" stands for all commands that begin so
      if (name === "admin" && adminHelp().includes(`\n  ${args.join(" ")} `)) continue;
      assertEquals(refusal(COMMANDS[name], args), undefined, `${path}: deno task ${line}`);
    }
  }
  assert(seen > 15, `only ${seen} command lines were found: the pattern must have broken`);
});

Deno.test("each flag and variable that a document names is some command's", async () => {
  const helps = Object.values(COMMANDS).map(({ help }) => help).join("\n");
  const known = new Set([...flagsIn(helps), "help", "version"]);
  // Deno's, curl's and those of the scripts in tests/fixtures
  const others = new Set(["allow-ffi", "train", "out", "doc", "node-modules-dir"]);
  const all = await sources();
  for (const { path, text } of await documents()) {
    const prose = text.replaceAll(/^```.*?^```$/gms, "");
    const wrong = flagsIn(prose).filter((flag) => !known.has(flag) && !others.has(flag));
    assertEquals(wrong, [], path);
    const variables = new Set(text.match(/LEMBAS_[A-Z_]+(?<!_)/g));
    assertEquals([...variables].filter((name) => !isVariable(name, all)), [], path);
  }
});

/** A flag's of `serve`, or one that some source or test reads by its name. */
function isVariable(name: string, all: string): boolean {
  const flag = name.replace("LEMBAS_", "").toLowerCase().replaceAll("_", "-");
  return flagsIn(helpText()).includes(flag) || all.includes(`"${name}"`) ||
    all.includes(`${name}=`);
}

async function sources(): Promise<string> {
  const { stdout } = await new Deno.Command("git", {
    args: ["grep", "-hE", "LEMBAS_[A-Z]", "--", "*.ts", "*.sh", ".ci/run"],
    cwd: ROOT,
  }).output();
  return new TextDecoder().decode(stdout);
}

Deno.test("each endpoint that a document or a help names is in the API's description or its routes", async () => {
  await using served = await openKeyedApp({ open: true });
  const described = await (await served.ask("GET", "/openapi.json")).json();
  const routes = [...Object.keys(described.paths), ...served.app.routes.map(({ path }) => path)];
  const patterns = routes.filter((path) => path !== "/*").map(patternOf);
  const helps = Object.values(COMMANDS).map(({ help }) => ({ path: "--help", text: help }));
  let seen = 0;
  for (const { path, text } of [...await documents(), ...helps]) {
    const named = text.matchAll(
      /(?<![\w.~:/}-])\/(?:v1|health|ready|docs|ping|load|metrics|version|tokenize|detokenize|openapi|console)\b[\w/{}.:%-]*/g,
    );
    for (const [endpoint] of named) {
      seen++;
      const plain = endpoint.replace(/[.:]+$/, "").replace(/\/$/, "");
      const found = plain === "/v1" || patterns.some((pattern) => pattern.test(plain)) ||
        routes.some((route) => route.startsWith(`${plain}/`));
      assert(found, `${path} names ${endpoint}, which is no endpoint`);
    }
  }
  assert(seen > 10, `only ${seen} endpoints were found: the pattern must have broken`);
});

/** `/v1/models/{model}` and `/v1/models/:model` as what they match. */
function patternOf(route: string): RegExp {
  const source = route.replaceAll(/[.*+?^$()|[\]\\]/g, "\\$&").replaceAll(
    /\{[^}]*\}|:\w+/g,
    "[^/]+",
  );
  return new RegExp(`^${source}$`);
}
