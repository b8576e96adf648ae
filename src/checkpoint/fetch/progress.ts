/**
 * Shows how far a download is: a bar on a terminal, now and then a line elsewhere. It owns standard
 * error's line while it runs.
 */

/** Called again and again as work goes on, in bytes; `total` is undefined while it is not known. */
export type Progress = (label: string, done: number, total: number | undefined) => void;

/** Where text goes. */
export interface ProgressOutput {
  readonly isTerminal: boolean;
  write(text: string): void;
}

const BAR_WIDTH = 24;
/** Off a terminal, a line for each tenth. */
const STEPS = 10;

/** Progress on standard error. */
export function standardErrorProgress(): Progress {
  const encoder = new TextEncoder();
  return textProgress({
    isTerminal: Deno.stderr.isTerminal(),
    write: (text) => void Deno.stderr.writeSync(encoder.encode(text)),
  });
}

/** A line of its own on standard error. */
export function standardErrorNotice(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));
}

/** Progress as text on any output. */
export function textProgress(output: ProgressOutput): Progress {
  const shown = new Map<string, number>();
  const began = new Map<string, Beginning>();
  return (label, done, total) => {
    const beginning = began.get(label) ?? { at: performance.now(), done };
    began.set(label, beginning);
    const amount = amountOf(done, total) + leftOf(beginning, done, total);
    if (output.isTerminal) {
      const end = total !== undefined && done >= total ? "\n" : "";
      output.write(`\r\x1b[K${barOf(label, done, total)}${amount}${end}`);
      return;
    }
    const step = total === undefined ? 0 : Math.floor(done / Math.max(total, 1) * STEPS);
    if (shown.get(label) === step) return;
    shown.set(label, step);
    output.write(`${label}: ${amount}\n`);
  };
}

/** When a work's first report came, and what was done by then. */
interface Beginning {
  readonly at: number;
  readonly done: number;
}

/** Seconds that the rest will take at the pace so far; nothing in the first second. */
function leftOf({ at, done: before }: Beginning, done: number, total: number | undefined): string {
  const passed = (performance.now() - at) / 1000;
  if (total === undefined || passed < 1 || done <= before || done >= total) return "";
  return `, ${Math.ceil((total - done) / (done - before) * passed)} s left`;
}

function barOf(label: string, done: number, total: number | undefined): string {
  if (total === undefined) return `${label} `;
  const filled = Math.round(Math.min(1, done / Math.max(total, 1)) * BAR_WIDTH);
  return `${label} [${"#".repeat(filled).padEnd(BAR_WIDTH, ".")}] `;
}

function amountOf(done: number, total: number | undefined): string {
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
  return total === undefined
    ? `${megabytes(done)} MB`
    : `${megabytes(done)} of ${megabytes(total)} MB`;
}
