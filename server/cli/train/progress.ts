/**
 * How training looks while it runs: one line that is drawn over on a terminal, now and then a line
 * elsewhere, each evaluation in a line of its own.
 */
import type { SettledHyperparameters, TrainProgress } from "../../../adapters/training/training.ts";
import type { Evaluation } from "../../../src/train/job.ts";

/** Where text goes. */
export interface ProgressScreen {
  readonly isTerminal: boolean;
  /** Of the terminal, now. */
  readonly columns: () => number;
  readonly write: (text: string) => void;
}

export interface DisplayOptions {
  readonly screen: ProgressScreen;
  /** How many runs will report. */
  readonly runs: number;
  /** Milliseconds, rising. */
  readonly now: () => number;
}

/** What can be shown of a run: a `TrainProgress`, or as much of it as a server tells. */
export type ShownProgress =
  | {
    readonly type: "start";
    readonly steps: number;
    readonly done: number;
    readonly settled: SettledHyperparameters;
    readonly base?: Evaluation;
  }
  | {
    readonly type: "step";
    readonly step: number;
    readonly steps: number;
    readonly loss: number;
    readonly accuracy: number;
    readonly tokensPerSecond?: number;
  }
  | Exclude<TrainProgress, { readonly type: "start" | "step" }>;

type Of<T extends ShownProgress["type"]> = Extract<ShownProgress, { readonly type: T }>;

/** A run as far as it is shown. */
interface RunState {
  readonly label: string;
  steps: number;
  step: number;
  last: Of<"step"> | undefined;
  ended: boolean;
}

const BAR_WIDTH = { least: 8, most: 24 } as const;
/** Milliseconds between two drawings, on a terminal and off it. */
const REDRAW = 100;
const LINE_EVERY = 10_000;

/** Standard error as it is. */
export function standardErrorScreen(): ProgressScreen {
  const encoder = new TextEncoder();
  const isTerminal = Deno.stderr.isTerminal();
  return {
    isTerminal,
    columns: () => isTerminal ? Deno.consoleSize().columns || 80 : 80,
    write: (text) => void Deno.stderr.writeSync(encoder.encode(text)),
  };
}

/** Shows one run, or all runs of a sweep. */
export class TrainDisplay {
  readonly #screen: ProgressScreen;
  readonly #now: () => number;
  readonly #expected: number;
  readonly #runs: RunState[] = [];
  /** When the first step was told, and how many steps were done then. */
  #first: { readonly time: number; readonly done: number } | undefined;
  #drawn = -Infinity;
  /** What was said of the base: runs of a sweep need not say it again. */
  #base = "";
  /** Whether the bar is on the terminal's last line. */
  #open = false;

  constructor({ screen, runs, now }: DisplayOptions) {
    this.#screen = screen;
    this.#expected = runs;
    this.#now = now;
  }

  /** A run's listener; `label` sets it apart in a sweep. */
  run(label: string): (progress: ShownProgress) => void {
    const state: RunState = {
      label,
      steps: 0,
      step: 0,
      last: undefined,
      ended: false,
    };
    this.#runs.push(state);
    return (progress) => this.#hear(state, progress);
  }

  /** A line that stays. */
  line(text: string): void {
    this.#screen.write(`${this.#open ? "\r\x1b[K" : ""}${text}\n`);
    this.#open = false;
    this.#drawn = -Infinity;
  }

  /** Leaves the bar as it is and begins a new line; call it last. */
  close(): void {
    if (this.#open) this.#screen.write("\n");
    this.#open = false;
  }

  #hear(state: RunState, progress: ShownProgress): void {
    const at = state.label === "" ? "" : `${state.label}: `;
    switch (progress.type) {
      case "start":
        return this.#start(state, progress, at);
      case "step":
        return this.#step(state, progress);
      case "evaluation": {
        const { step, evaluation } = progress;
        return this.#note(`${at}step ${step}: ${evaluationText("validation", evaluation)}`);
      }
      case "rollback":
        return this.#note(`${at}step ${progress.step}: went back, ${progress.reason}`);
      case "stopped":
        state.ended = true;
        return this.#note(`${at}step ${progress.step}: stopped, ${progress.reason}`);
    }
  }

  #start(state: RunState, { settled, steps, done, base }: Of<"start">, at: string): void {
    Object.assign(state, { steps, step: done });
    const rate = settled.learningRate.toPrecision(3);
    this.line(
      `${at}${steps} steps, ${settled.epochs} epochs, batch ${settled.batchSize}, ` +
        `learning rate ${rate}${done > 0 ? `; going on after step ${done}` : ""}`,
    );
    const text = base === undefined ? "" : `base: ${evaluationText("validation", base)}`;
    if (text !== this.#base) this.line(text);
    this.#base = text;
  }

  #step(state: RunState, progress: Of<"step">): void {
    state.steps = progress.steps;
    state.step = progress.step;
    state.last = progress;
    state.ended = progress.step >= progress.steps;
    this.#first ??= { time: this.#now(), done: this.#done() };
    this.#draw(state.ended && this.#done() >= this.#total() ? 0 : REDRAW);
  }

  /** A line that stays, and the bar below it again. */
  #note(text: string): void {
    const drawn = this.#drawn;
    this.line(text);
    if (this.#screen.isTerminal) this.#draw(0);
    else this.#drawn = drawn;
  }

  #draw(least: number): void {
    const now = this.#now();
    const { isTerminal, columns, write } = this.#screen;
    if (now - this.#drawn < (least === 0 || isTerminal ? least : LINE_EVERY)) return;
    this.#drawn = now;
    const [done, total] = [this.#done(), this.#total()];
    const text = this.#text(now, done, total);
    if (!isTerminal) return write(`step ${text}\n`);
    const room = columns() - 1;
    const bar = barOf(done, total, room - text.length - "[] ".length);
    write(`\r\x1b[K${`${bar} ${text}`.slice(0, room)}`);
    this.#open = true;
  }

  #text(now: number, done: number, total: number): string {
    const last = this.#runs.flatMap((run) => run.last ?? []);
    const mean = (pick: (step: Of<"step">) => number) =>
      last.reduce((sum, step) => sum + pick(step), 0) / Math.max(1, last.length);
    const speed = this.#speed();
    const loss = `loss ${mean((step) => step.loss).toFixed(3)}`;
    const parts = [
      `${done}/${total}`,
      this.#expected > 1 ? `${loss} (mean of ${this.#expected})` : loss,
      `accuracy ${percent(mean((step) => step.accuracy))}`,
      ...(speed === undefined ? [] : [`${Math.round(speed).toLocaleString("en-US")} tok/s`]),
      `ETA ${this.#eta(now, done, total)}`,
    ];
    return parts.join("  ");
  }

  /** Of the runs that still run together; of the last ones where none does. */
  #speed(): number | undefined {
    const running = this.#runs.filter(({ ended }) => !ended);
    const speeds = (running.length > 0 ? running : this.#runs).flatMap(({ last }) =>
      last?.tokensPerSecond ?? []
    );
    return speeds.length === 0 ? undefined : speeds.reduce((sum, speed) => sum + speed, 0);
  }

  #eta(now: number, done: number, total: number): string {
    const first = this.#first;
    if (first === undefined || done <= first.done) return "-";
    return duration((now - first.time) / (done - first.done) * (total - done) / 1000);
  }

  /** Runs that stopped early count as whole. */
  #done(): number {
    return this.#runs.reduce((sum, run) => sum + (run.ended ? run.steps : run.step), 0);
  }

  #total(): number {
    return this.#runs.reduce((sum, run) => sum + run.steps, 0);
  }
}

/** `validation loss 1.234, accuracy 56.7%` */
export function evaluationText(
  what: string,
  { loss, accuracy }: { readonly loss: number; readonly accuracy: number },
): string {
  return `${what} loss ${loss.toFixed(4)}, accuracy ${percent(accuracy)}`;
}

/** 0.5 → `50.0%` */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

/** Seconds → `1:02:03`, `2:03`, `0:03`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0
    ? `${hours}:${two(minutes)}:${two(whole % 60)}`
    : `${minutes}:${two(whole % 60)}`;
}

function barOf(done: number, total: number, room: number): string {
  const width = Math.max(BAR_WIDTH.least, Math.min(BAR_WIDTH.most, room));
  const filled = Math.round(Math.min(1, done / Math.max(total, 1)) * width);
  return `[${"#".repeat(filled).padEnd(width, ".")}]`;
}
