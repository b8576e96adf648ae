/**
 * What a quality run is on paper: one line of JSON for each training, with its accuracies and each
 * test row's verdict, appended as it ends, so that a report can be made of it and no run is made
 * twice. It trains nothing; PEFT's lines are read into the same shape.
 */

/** Share of rows answered rightly. */
export interface Accuracy {
  /** The whole greedy answer is equal. */
  readonly exact: number;
  /** The likeliest of the labels' first tokens is right. */
  readonly label: number;
}

/** What a report needs of a run, whoever trained it. */
export interface Run {
  /** "base", "core32", "PEFT LoRA r=8", … */
  readonly method: string;
  readonly task: string;
  /** A multiplier of the rule's learning rate, or the peer's rate itself. */
  readonly rate: number;
  readonly seed: number;
  /** Trained ones. */
  readonly parameters: number;
  readonly valid: Accuracy;
  readonly test: Accuracy;
  /** "1" or "0" for each test row. */
  readonly rowsExact: string;
  readonly rowsLabel: string;
}

/** Everything that makes a run of lembas what it is: a run with the same is not repeated. */
export interface Trial {
  readonly method: string;
  readonly task: string;
  readonly rate: number;
  readonly seed: number;
  /** Training rows. */
  readonly rows: number;
  readonly epochs: number;
  readonly batch: number;
  /** Most rows of validation and test. */
  readonly evaluated: number;
  /** Digest of the factor set; empty for the base. */
  readonly factors: string;
}

/** A run of lembas, as its line has it. */
export interface TrialRun extends Run, Trial {
  /** Losses on the validation rows; undefined for the base. */
  readonly training?: {
    readonly learningRate: number;
    readonly baseLoss: number;
    readonly bestLoss: number;
    readonly bestStep: number;
    readonly steps: number;
    readonly tokens: number;
  };
}

/** Two trials of the same key are the same. */
export function trialKey(trial: Trial): string {
  const { method, task, rate, seed, rows, epochs, batch, evaluated, factors } = trial;
  return JSON.stringify([method, task, rate, seed, rows, epochs, batch, evaluated, factors]);
}

/** The runs of a file, appended to it one by one. */
export class RunFile {
  readonly #path: string;
  readonly #runs: Map<string, TrialRun>;

  private constructor(path: string, runs: readonly TrialRun[]) {
    this.#path = path;
    this.#runs = new Map(runs.map((run) => [trialKey(run), run]));
  }

  /** Reads what is there; a file that is not there yet has no runs. */
  static async open(path: string): Promise<RunFile> {
    return new RunFile(path, (await wholeLines(path)).map((line) => JSON.parse(line) as TrialRun));
  }

  find(trial: Trial): TrialRun | undefined {
    return this.#runs.get(trialKey(trial));
  }

  /** Appended and synced before it returns. */
  async add(run: TrialRun): Promise<void> {
    using file = await Deno.open(this.#path, { append: true, create: true });
    const bytes = new TextEncoder().encode(`${JSON.stringify(run)}\n`);
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    await file.sync();
    this.#runs.set(trialKey(run), run);
  }
}

/** Runs that `peft_train.py quality` printed, one a line; other lines are passed over. */
export async function readPeftRuns(path: string): Promise<readonly Run[]> {
  const lines = (await Deno.readTextFile(path)).split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => peftRun(JSON.parse(line), line));
}

function peftRun(line: Record<string, unknown>, text: string): Run {
  const { peer, ...rest } = line;
  if (typeof peer !== "string" || typeof rest["rowsExact"] !== "string") {
    throw new TypeError(`Cannot read the peer's run: ${text.slice(0, 80)} has no verdicts`);
  }
  return { ...rest, method: peer } as unknown as Run;
}

/** The file's whole lines; one that a killed process left torn is cut off. */
async function wholeLines(path: string): Promise<readonly string[]> {
  try {
    const bytes = await Deno.readFile(path);
    const end = bytes.lastIndexOf(10) + 1;
    if (end < bytes.length) await Deno.truncate(path, end);
    return new TextDecoder().decode(bytes.subarray(0, end)).split("\n").filter(Boolean);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
