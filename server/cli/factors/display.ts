/** How making factors looks while it runs: a bar on a terminal, now and then a line elsewhere. */
import type { ProgressScreen } from "../train/progress.ts";

/** Hears of work done, of all there is, and of what was done last. */
export type WorkProgress = (done: number, total: number, what: string) => void;

const BAR_WIDTH = 24;
/** Off a terminal, a line for each tenth. */
const STEPS = 10;

/** Shows one kind of work at a time; `what` may change on the way. */
export function workDisplay(screen: ProgressScreen): WorkProgress {
  let shown = "";
  return (done, total, what) => {
    if (screen.isTerminal) {
      const filled = Math.round(done / Math.max(total, 1) * BAR_WIDTH);
      const bar = "#".repeat(filled).padEnd(BAR_WIDTH, ".");
      const line = `[${bar}] ${done}/${total} ${what}`.slice(0, screen.columns() - 1);
      screen.write(`\r\x1b[K${line}${done === total ? "\n" : ""}`);
      return;
    }
    const step = `${total} ${Math.floor(done / Math.max(total, 1) * STEPS)}`;
    if (step === shown) return;
    shown = step;
    screen.write(`${done}/${total} ${what}\n`);
  };
}
