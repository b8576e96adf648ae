/**
 * `deno task train` with a base without weights, for tests that need a process and its signals. It
 * stands still before the step that STOP_BEFORE names.
 */
import { runTrain } from "../../../../server/cli/train/command.ts";
import { waitFor } from "../../../../src/util/time.ts";
import { standardErrorScreen } from "../../../../server/cli/train/progress.ts";
import { fakeBase } from "../../../fakes/trainer.ts";

if (import.meta.main) {
  const stopBefore = Number(Deno.env.get("STOP_BEFORE") ?? Infinity);
  const code = await runTrain({
    args: Deno.args,
    env: () => undefined,
    version: "0.0.0",
    load: () =>
      Promise.resolve(fakeBase({ pace: (step) => step < stopBefore ? now() : standStill() })),
    screen: standardErrorScreen(),
    // deno-lint-ignore no-console -- the command's output
    print: (line) => console.log(line),
    now: () => performance.now(),
    marks: "brackets",
    wait: waitFor,
  });
  Deno.exit(code);
}

function now(): Promise<void> {
  return Promise.resolve();
}

/** Until a signal: the one that the command listens to as well. */
function standStill(): Promise<void> {
  return new Promise((resolve) => {
    Deno.addSignalListener("SIGINT", () => resolve());
    Deno.stderr.writeSync(new TextEncoder().encode("standing still\n"));
  });
}
