/** Several listeners as the one that an engine takes. It keeps nothing. */
import type { EngineListener } from "../src/engine/metrics.ts";

/** Each observation goes to every listener, in order. */
export function joinListeners(...listeners: readonly EngineListener[]): EngineListener {
  return {
    firstToken: (seconds) => listeners.forEach((one) => one.firstToken?.(seconds)),
    interToken: (seconds) => listeners.forEach((one) => one.interToken?.(seconds)),
    finished: (seen) => listeners.forEach((one) => one.finished?.(seen)),
    step: (seen) => listeners.forEach((one) => one.step?.(seen)),
    idle: () => listeners.forEach((one) => one.idle?.()),
  };
}
