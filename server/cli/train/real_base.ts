/**
 * The base of `deno task train` as it really is: a checkpoint from a spec, and on demand its
 * weights on the CPU in int8, trained over alone.
 */
import { BaseTrainer } from "../../../adapters/training/base_trainer.ts";
import {
  openTeacher,
  type TeacherSource,
} from "../../../adapters/training/distillation/open_teacher.ts";
import type { MakerProgress } from "../../../adapters/lotr/make/gradient_factors.ts";
import { loadWeights } from "../../../adapters/loaded_base.ts";
import { stackOf } from "../../../adapters/lotr/stack.ts";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { standardErrorProgress } from "../../../src/checkpoint/fetch/progress.ts";
import { DeviceLock } from "../../../src/runtime/device_lock.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { openTrainable } from "../trainable.ts";
import type { OpenedTrainer, TrainBase, TrainerOptions } from "./base.ts";

/** Chooses kernels for batches: what the server chooses by default. */
const MAX_BATCH = 32;

/** Milliseconds after which a wait is told: another process may be making the set. */
const PATIENCE = 2000;

/** @throws {TypeError | RangeError} where the spec names no model that can be had */
export async function loadTrainBase(spec: string | undefined): Promise<TrainBase> {
  const progress = standardErrorProgress();
  const checkpoint = await openTrainable(spec, { progress });
  return {
    source: checkpoint,
    digest: () => checkpoint.digest(),
    openTrainer: (options) => openTrainer(checkpoint, options),
    close: () => Promise.resolve(checkpoint.close()),
  };
}

async function openTrainer(
  checkpoint: Checkpoint,
  { factors: given, maxContext, onNote }: TrainerOptions,
): Promise<OpenedTrainer> {
  given?.checkStack(stackOf(await checkpoint.digest(), checkpoint.config));
  using opened = new DisposableStack();
  const device = opened.use(openDevice("cpu"));
  const spec = { dtype: "int8", maxBatch: MAX_BATCH, maxContext } as const;
  const base = await loadWeights(device, checkpoint, spec);
  opened.move();
  for (const warning of checkpoint.warnings) onNote(`warning: ${warning}`);
  const lock = new DeviceLock();
  const notes = factorsNotes(onNote);
  const training = new BaseTrainer(base.shared, { turn: () => lock.take(0), onFactors: notes });
  const close = async () => {
    await training.close();
    base.release();
    device.release();
  };
  const waiting = setTimeout(() => onNote("waiting for the default factor set"), PATIENCE);
  try {
    const factors = given ?? await training.defaultFactors();
    const { trainer } = training;
    const openTeacherHere = (source: TeacherSource) =>
      openTeacher(source, { base, checkpoint, lock });
    return { trainer, factors, openTeacher: openTeacherHere, close };
  } catch (error) {
    await close();
    throw error;
  } finally {
    clearTimeout(waiting);
  }
}

/** A line for each quarter of the way to a default factor set. */
function factorsNotes(onNote: (text: string) => void): (progress: MakerProgress) => void {
  let told = "";
  return ({ phase, done, total }) => {
    const text = `making the default factor set, once: ${phase} ${
      Math.floor(4 * done / total) * 25
    }%`;
    if (text !== told) onNote(text);
    told = text;
  };
}
