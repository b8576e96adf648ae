/**
 * Checkpoints of trials that are not done, beside the file of their runs, so that hours of training
 * outlive a kill. It owns their names; what a checkpoint holds is the trainer's.
 */
import { createHash } from "node:crypto";
import { exists, removeIfThere, writeAtomically } from "../../src/checkpoint/fetch/cache.ts";
import { type Trial, trialKey } from "./runs.ts";

export class TrialStates {
  readonly #directory: string;

  /** @param runs the file of runs that they are beside */
  constructor(runs: string) {
    this.#directory = `${runs}.states`;
  }

  async read(trial: Trial): Promise<Uint8Array | undefined> {
    const path = this.#path(trial);
    return await exists(path) ? await Deno.readFile(path) : undefined;
  }

  async write(trial: Trial, bytes: Uint8Array): Promise<void> {
    await Deno.mkdir(this.#directory, { recursive: true });
    await writeAtomically(this.#path(trial), bytes);
  }

  remove(trial: Trial): Promise<void> {
    return removeIfThere(this.#path(trial));
  }

  #path(trial: Trial): string {
    const name = createHash("sha256").update(trialKey(trial)).digest("hex").slice(0, 16);
    return `${this.#directory}/${trial.task}-${trial.method}-${name}.safetensors`;
  }
}
