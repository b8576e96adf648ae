/**
 * What one run has told so far: its steps, evaluations and accidents, kept so that a report, a
 * curve and a resumed run have all of it.
 */
import type { TrainProgress } from "../../../adapters/training/training.ts";
import type { Evaluation } from "../../../src/train/job.ts";

type Of<T extends TrainProgress["type"]> = Extract<TrainProgress, { readonly type: T }>;

/** A step without what its run already says. */
export type StepRecord = Omit<Of<"step">, "type" | "steps" | "tokensPerSecond">;
export type EvaluationRecord = Evaluation & { readonly step: number };
export interface Accident {
  readonly type: "rollback" | "stopped";
  readonly step: number;
  readonly reason: string;
}

/** Plain data: it is stored beside a checkpoint as JSON. */
export interface HistoryData {
  /** Digest of the factor set that is trained for. */
  readonly factors?: string;
  readonly steps: readonly StepRecord[];
  readonly evaluations: readonly EvaluationRecord[];
  readonly accidents: readonly Accident[];
}

export const EMPTY_HISTORY: HistoryData = { steps: [], evaluations: [], accidents: [] };

export class History {
  #start: Of<"start"> | undefined;
  #steps: StepRecord[];
  #evaluations: EvaluationRecord[];
  #accidents: Accident[];
  #tokensPerSecond: number | undefined;

  constructor({ steps, evaluations, accidents }: HistoryData = EMPTY_HISTORY) {
    this.#steps = [...steps];
    this.#evaluations = [...evaluations];
    this.#accidents = [...accidents];
  }

  /** What "auto" became; undefined before the run has begun. */
  get start(): Of<"start"> | undefined {
    return this.#start;
  }

  get tokensPerSecond(): number | undefined {
    return this.#tokensPerSecond;
  }

  get data(): Omit<HistoryData, "factors"> {
    return { steps: this.#steps, evaluations: this.#evaluations, accidents: this.#accidents };
  }

  get lastStep(): StepRecord | undefined {
    return this.#steps.at(-1);
  }

  add(progress: TrainProgress): void {
    switch (progress.type) {
      case "start":
        this.#start = progress;
        return this.#forget(progress.done);
      case "step": {
        const { type: _type, steps: _steps, tokensPerSecond, ...record } = progress;
        this.#tokensPerSecond = tokensPerSecond;
        return void this.#steps.push(record);
      }
      case "evaluation":
        return void this.#evaluations.push({ step: progress.step, ...progress.evaluation });
      case "rollback":
      case "stopped":
        return void this.#accidents.push(progress);
    }
  }

  /** A run that goes on from step `done` tells what follows once more. */
  #forget(done: number): void {
    this.#steps = this.#steps.filter(({ step }) => step <= done);
    this.#evaluations = this.#evaluations.filter(({ step }) => step <= done);
    this.#accidents = this.#accidents.filter(({ step }) => step <= done);
  }
}

/** @throws {TypeError} where the text is not what `JSON.stringify(history.data)` wrote. */
export function parseHistory(text: string): HistoryData {
  const data: unknown = JSON.parse(text);
  if (!isHistory(data)) {
    throw new TypeError("Cannot read the history of a run: it has no steps and evaluations");
  }
  return data;
}

function isHistory(data: unknown): data is HistoryData {
  if (typeof data !== "object" || data === null) return false;
  const lists = ["steps", "evaluations", "accidents"].map((key) => Reflect.get(data, key));
  return lists.every((list) =>
    Array.isArray(list) && list.every((item) => typeof item?.step === "number")
  );
}
