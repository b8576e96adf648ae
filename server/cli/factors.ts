/**
 * The entry point of `deno task factors`: makes factor sets, shows what factor and core files hold,
 * compares sets, and exports cores.
 */
// deno-lint-ignore-file no-console -- an entry point: its output is the console
import { openBaseGradients } from "../../adapters/lotr/make/base_gradients.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { runFactors } from "./factors/command.ts";
import { parseFactorsCommand } from "./factors/flags.ts";
import type { FactorsBase } from "./factors/matrices.ts";
import { standardErrorScreen } from "./train/progress.ts";

/** @throws {TypeError | RangeError} where the spec names no model that can be had */
async function load(spec: string | undefined): Promise<FactorsBase> {
  const checkpoint = await openCheckpoint(await resolveModel(spec));
  return {
    checkpoint,
    openSource: () => openBaseGradients(checkpoint),
    [Symbol.dispose]: () => checkpoint.close(),
  };
}

if (import.meta.main) {
  try {
    await runFactors(parseFactorsCommand(Deno.args), {
      load,
      screen: standardErrorScreen(),
      print: (text) => console.log(text),
    });
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exit(1);
  }
}
