/**
 * The matrices that factor sets are measured against: a base's weights, or the gradients of
 * language modelling over a calibration text.
 */
import {
  calibrationExamples,
  generalText,
  textExamples,
} from "../../../adapters/lotr/make/corpus.ts";
import { stackOf, weightName } from "../../../adapters/lotr/stack.ts";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { transpose } from "../../../src/graph/quantise.ts";
import { type ModuleName, SITE_OF } from "../../../src/models/hook.ts";
import type { GradientSource, LinearMatrix } from "../../../src/train/gradients/gradient_source.ts";
import type { Example } from "../../../src/train/gradients/model.ts";
import type { ProgressScreen } from "../train/progress.ts";
import type { WorkProgress } from "./display.ts";

/** What the commands need of a base model. */
export interface FactorsBase extends Disposable {
  readonly checkpoint: Checkpoint;
  /** Opens what computes gradients: seconds. Released by whoever opened it. */
  readonly openSource: () => GradientSource | Promise<GradientSource>;
  /** Where made sets are kept; undefined = the cache directory's own place. */
  readonly cache?: string;
}

/** Opens the base that a spec names; undefined = the default one. */
export type FactorsBaseLoader = (spec: string | undefined) => Promise<FactorsBase>;

/** What a process gives the command. */
export interface FactorsEnvironment {
  readonly load: FactorsBaseLoader;
  /** Where progress goes. */
  readonly screen: ProgressScreen;
  /** A line, or a table, of the result. */
  readonly print: (text: string) => void;
}

/** The examples of `--calibration`, or of the general text. */
export async function readCalibration(
  path: string | undefined,
  checkpoint: Checkpoint,
): Promise<readonly Example[]> {
  if (path === undefined) {
    return textExamples(generalText(), checkpoint.tokenizer, checkpoint.config.maxPositions);
  }
  try {
    return calibrationExamples(await Deno.readFile(path), checkpoint);
  } catch (error) {
    throw new TypeError(`${path}: ${error instanceof Error ? error.message : error}`);
  }
}

export async function* gradientMatrices(
  base: FactorsBase,
  modules: readonly ModuleName[],
  calibration: string | undefined,
  progress: WorkProgress,
): AsyncGenerator<LinearMatrix> {
  const examples = await readCalibration(calibration, base.checkpoint);
  const source = await base.openSource();
  try {
    const onProgress = (done: number, total: number) => progress(done, total, "tokens");
    yield* source.weightGradients({ examples, modules, onProgress });
  } finally {
    source.release();
  }
}

/** The weights as `x · W` reads them, one after the other. */
export async function* weightMatrices(
  { checkpoint }: FactorsBase,
  modules: readonly ModuleName[],
): AsyncGenerator<LinearMatrix> {
  const stack = stackOf(await checkpoint.digest(), checkpoint.config);
  for (let layer = 0; layer < stack.layers; layer++) {
    for (const module of modules) {
      const weight = checkpoint.weights.read(weightName(layer, module));
      const [rows, columns] = [stack.outputs[module], stack.inputs[SITE_OF[module]]];
      yield { layer, module, values: transpose(weight, rows, columns) };
    }
  }
}
