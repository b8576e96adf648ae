/**
 * `deno task train`: hands the process's arguments, environment and console, and the loader of real
 * models, to the command. It needs all permissions: the runtime calls ONNX Runtime's library
 * through FFI, which no other denial could hold back.
 */
// deno-lint-ignore-file no-console -- an entry point: its output is the console
import config from "../../deno.json" with { type: "json" };
import { runTrain } from "./train/command.ts";
import { standardErrorScreen } from "./train/progress.ts";
import { loadTrainBase } from "./train/real_base.ts";
import { waitFor } from "../../src/util/time.ts";

if (import.meta.main) {
  const code = await runTrain({
    args: Deno.args,
    env: (name) => Deno.env.get(name),
    version: config.version,
    load: loadTrainBase,
    screen: standardErrorScreen(),
    print: (line) => console.log(line),
    marks: Deno.stdout.isTerminal() ? "colours" : "brackets",
    now: () => performance.now(),
    wait: waitFor,
  });
  Deno.exit(code);
}
