/**
 * The entry point of `deno task factors`: makes factor sets, shows what factor and core files hold,
 * compares sets, and exports cores. It owns the process; the command is `factors/command.ts`'.
 */
// deno-lint-ignore-file no-console -- an entry point: its output is the console
import { runFactors } from "./factors/command.ts";
import { parseFactorsCommand } from "./factors/flags.ts";
import { loadFactorsBase } from "./factors/real_base.ts";
import { standardErrorScreen } from "./train/progress.ts";

if (import.meta.main) {
  try {
    await runFactors(parseFactorsCommand(Deno.args), {
      load: loadFactorsBase,
      screen: standardErrorScreen(),
      print: (text) => console.log(text),
    });
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exit(1);
  }
}
