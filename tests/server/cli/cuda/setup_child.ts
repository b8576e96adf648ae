/**
 * `deno task setup:cuda` over wheels that a test has made: its only argument is a JSON file with the
 * set-up, those behind it are the command's. It prints what the command says.
 */
// deno-lint-ignore-file no-console -- its output is what the test reads
import { standardErrorProgress } from "../../../../src/checkpoint/fetch/progress.ts";
import { runSetupCuda } from "../../../../server/cli/setup_cuda.ts";

const [path = "", ...args] = Deno.args;
const answer = Deno.env.get("ANSWER");
try {
  await runSetupCuda(args, {
    setup: {
      ...JSON.parse(await Deno.readTextFile(path)),
      progress: standardErrorProgress(),
    },
    say: (text) => console.log(text),
    ask: answer === undefined ? undefined : () => answer === "yes",
  });
} catch (error) {
  console.log(error instanceof Error ? error.message : error);
  Deno.exit(1);
}
