/**
 * The entry point of `deno task factors`: makes factor sets, shows what factor and core files hold,
 * compares sets, and exports cores.
 */
// deno-lint-ignore-file no-console -- an entry point: its output is the console
import { loadWeights } from "../../adapters/loaded_base.ts";
import {
  fitsInFloat32,
  float32Gradients,
  servedGradients,
} from "../../adapters/lotr/make/base_gradients.ts";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { standardErrorProgress } from "../../src/checkpoint/fetch/progress.ts";
import { openDevice } from "../../src/runtime/open.ts";
import type { GradientSource } from "../../src/train/gradients/gradient_source.ts";
import { runFactors } from "./factors/command.ts";
import { parseFactorsCommand } from "./factors/flags.ts";
import type { FactorsBase } from "./factors/matrices.ts";
import { openTrainable } from "./trainable.ts";
import { standardErrorScreen } from "./train/progress.ts";

/** @throws {TypeError | RangeError} where the spec names no model that can be had */
async function load(spec: string | undefined): Promise<FactorsBase> {
  const checkpoint = await openTrainable(spec);
  return {
    checkpoint,
    openSource: () => openSource(checkpoint),
    [Symbol.dispose]: () => checkpoint.close(),
  };
}

/** Chooses kernels for batches: what the server chooses by default. */
const MAX_BATCH = 32;

/** Gradients of a large base are computed over the weights that serve. */
async function openSource(checkpoint: Checkpoint): Promise<GradientSource> {
  if (fitsInFloat32(checkpoint)) return float32Gradients(checkpoint);
  using opened = new DisposableStack();
  const device = opened.use(openDevice("cpu"));
  const spec = { dtype: "auto", maxBatch: MAX_BATCH, progress: standardErrorProgress() } as const;
  const base = await loadWeights(device, checkpoint, spec);
  opened.move();
  const onRelease = () => {
    base.release();
    device.release();
  };
  return servedGradients(base.shared, { onRelease });
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
