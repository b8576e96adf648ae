/**
 * The last two minutes of the engine, second by second: tokens computed, and what runs, waits and
 * fills the KV memory. The engine's own steps fill it, so it needs no timer and costs nothing
 * while nothing runs.
 */
import type { Engine } from "../../src/engine/engine.ts";
import type { EngineListener, StepObservation } from "../../src/engine/metrics.ts";

/** Seconds that are kept. */
export const WINDOW = 120;

/** One second. */
export interface Second {
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly running: number;
  readonly waiting: number;
  /** 0 to 1. */
  readonly kvUsage: number;
}

type Gauges = Pick<Second, "running" | "waiting" | "kvUsage">;

interface Slot {
  second: number;
  promptTokens: number;
  outputTokens: number;
  gauges: Gauges;
}

const IDLE: Second = { promptTokens: 0, outputTokens: 0, running: 0, waiting: 0, kvUsage: 0 };

export class Traffic {
  readonly #slots: Slot[] = [];
  readonly #now: () => number;
  #engine: Pick<Engine, "stats"> | undefined;

  /** @param now monotonic milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Sets the engine to read; its listener is needed before there is one. */
  attach(engine: Pick<Engine, "stats">): void {
    this.#engine = engine;
  }

  /** To be given to the engine. */
  get listener(): EngineListener {
    return { step: (seen) => this.#step(seen) };
  }

  /** What runs and waits at this moment. */
  gauges(): Gauges {
    const stats = this.#engine?.stats();
    if (stats === undefined) return IDLE;
    const { running, waiting, loading, kvUsage } = stats;
    return { running, waiting: waiting + loading, kvUsage };
  }

  /** The whole seconds before the current one, oldest first. Seconds without a step were idle. */
  window(): readonly Second[] {
    const current = this.#second();
    return Array.from({ length: WINDOW }, (_, i) => {
      const second = current - WINDOW + i;
      const slot = this.#slots[second % (WINDOW + 1)];
      if (slot?.second !== second) return IDLE;
      const { promptTokens, outputTokens, gauges } = slot;
      return { promptTokens, outputTokens, ...gauges };
    });
  }

  #step({ kind, tokens }: StepObservation): void {
    const slot = this.#slot();
    if (kind === "prefill") slot.promptTokens += tokens;
    else slot.outputTokens += tokens;
  }

  #slot(): Slot {
    const second = this.#second();
    const at = second % (WINDOW + 1);
    const slot = this.#slots[at];
    if (slot?.second === second) return slot;
    const fresh = { second, promptTokens: 0, outputTokens: 0, gauges: this.gauges() };
    this.#slots[at] = fresh;
    return fresh;
  }

  #second(): number {
    return Math.floor(this.#now() / 1000);
  }
}
