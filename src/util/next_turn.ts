/** One turn of the event loop. It knows nothing of who else waits for one. */
import { setImmediate } from "node:timers";

/** Lets the event loop serve its other callers. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
