/**
 * How many tokens of a long prompt a lane computes between two decode steps: as many as take about as
 * long as a step. So the rows that decode wait for two steps between two tokens, however many they
 * are and however much the prompt has before it, and neither they nor the prompt get less than half
 * of the time. Measured, as what a token costs follows from the model, the machine and the prompt.
 */

/** Tokens of the first chunk, before anything is measured. */
const FIRST = 32;
/** Fewest: below, a run costs hardly less. */
const LEAST = 8;
const MOST = 64;
/** Tokens are a multiple of this, as each length has a binding of its own. */
const STEP = 4;
/** Most that one measure changes, as runs are disturbed. */
const CHANGE = 2;
/** How much the latest step counts in the mean. */
const WEIGHT = 0.25;

export class Pace {
  #tokens = FIRST;
  #stepSeconds: number | undefined;

  /** Tokens of the next chunk beside rows that decode. */
  get tokens(): number {
    return Math.max(LEAST, Math.floor(this.#tokens / STEP) * STEP);
  }

  /** Decode steps that take about so long together, at least one. */
  stepsWithin(seconds: number): number {
    if (this.#stepSeconds === undefined) return 1;
    return Math.max(1, Math.floor(seconds / this.#stepSeconds));
  }

  /** A decode step took so long. */
  decoded(seconds: number): void {
    const before = this.#stepSeconds ?? seconds;
    this.#stepSeconds = before + WEIGHT * (seconds - before);
  }

  /** A chunk of so many tokens took so long. */
  chunked(tokens: number, seconds: number): void {
    if (this.#stepSeconds === undefined || tokens < this.tokens / 2) return;
    const change = Math.min(CHANGE, Math.max(1 / CHANGE, this.#stepSeconds / seconds));
    this.#tokens = Math.min(MOST, Math.max(LEAST, tokens * change));
  }
}
