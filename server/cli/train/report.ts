/**
 * What a training says when it is over: the JSON report beside the core, and the table on the
 * screen.
 */
import type { TrainResult } from "../../../adapters/training/training.ts";
import type { Evaluation } from "../../../src/train/job.ts";
import type { Hyperparameters } from "../../../adapters/training/hyperparameters.ts";
import { formatBytes } from "../../../src/util/bytes.ts";
import type { Curve } from "./curve.ts";
import type { FollowedTeacher } from "./teacher/flags.ts";
import type { History } from "./history.ts";
import { type Variant, variantLabel } from "./sweep.ts";
import type { OutputPaths, WrittenCore } from "./output.ts";
import { duration, percent } from "./progress.ts";

/** A run that ended, well or not. */
export interface EndedRun {
  readonly variant: Variant;
  readonly hyperparameters: Hyperparameters;
  readonly history: History;
  readonly outcome:
    | { readonly type: "trained"; readonly result: TrainResult }
    | { readonly type: "failed"; readonly reason: string };
}

export type TrainedRun = EndedRun & { readonly outcome: { readonly type: "trained" } };

/** A file that was read: what the report says of it. */
export interface DataFile {
  readonly file: string;
  readonly sha256: string;
  readonly rows: number;
  readonly tokens: number;
  /** Tokens that carry loss. */
  readonly lossTokens: number;
}

export interface ReportParts {
  readonly version: string;
  readonly tenant: string;
  readonly name: string;
  readonly model: { readonly id: string; readonly digest: string };
  readonly data: DataFile;
  readonly valid: DataFile | undefined;
  /** Whom the core follows: losses are divergences from it, hits where both expect one token most. */
  readonly teacher: FollowedTeacher | undefined;
  readonly runs: readonly EndedRun[];
  readonly best: TrainedRun;
  readonly core: WrittenCore;
  readonly verdict: "published" | "refused";
  readonly warnings: readonly string[];
  readonly seconds: number;
}

/** Whether the runs' better one comes first: not refused, then by validation loss. */
export function bestRun(runs: readonly EndedRun[]): TrainedRun | undefined {
  const rank = ({ outcome: { result } }: TrainedRun) => [
    result.refused === undefined ? 0 : 1,
    Number.isFinite(result.best.loss) ? result.best.loss : Infinity,
  ];
  return runs.filter(isTrained).reduce<TrainedRun | undefined>((best, run) => {
    if (best === undefined) return run;
    const [[gate = 0, loss = 0], [bestGate = 0, bestLoss = 0]] = [rank(run), rank(best)];
    return gate < bestGate || (gate === bestGate && loss < bestLoss) ? run : best;
  }, undefined);
}

function isTrained(run: EndedRun): run is TrainedRun {
  return run.outcome.type === "trained";
}

/** The report as a value for `JSON.stringify`. */
export function reportOf(parts: ReportParts): Record<string, unknown> {
  const { best, core, version, seconds } = parts;
  const { result } = best.outcome;
  return {
    format: "lembas.training/1",
    name: `${parts.tenant}/${parts.name}`,
    verdict: parts.verdict,
    refused: result.refused,
    model: parts.model,
    data: parts.data,
    valid: parts.valid,
    teacher: parts.teacher,
    factors: factorsReport(result, core),
    core: {
      file: core.path,
      digest: core.digest,
      bytes: core.bytes,
      rank: result.core.rank,
      alpha: result.core.alpha,
      modules: result.core.modules,
      trainedParameters: result.trainableParameters,
    },
    ...runReport(best),
    runs: parts.runs.length === 1
      ? undefined
      : parts.runs.map((run) => ({ variant: variantLabel(run.variant), ...runReport(run) })),
    seconds: Number(seconds.toFixed(1)),
    warnings: parts.warnings,
    machine: machine(version),
  };
}

function factorsReport({ factors }: TrainResult, { factorsPath }: WrittenCore) {
  const { digest, rank, alpha, modules, layers } = factors;
  return { file: factorsPath, digest, rank, alpha, modules, layers };
}

function runReport({ hyperparameters, history, outcome }: EndedRun): Record<string, unknown> {
  const { steps, evaluations, accidents } = history.data;
  const told = { steps, evaluations, accidents, tokensPerSecond: history.tokensPerSecond };
  if (outcome.type === "failed") {
    return { hyperparameters: { asked: hyperparameters }, failed: outcome.reason, ...told };
  }
  const { result } = outcome;
  return {
    hyperparameters: { asked: hyperparameters, settled: result.settled },
    refused: result.refused,
    base: result.base,
    best: result.best,
    stepCount: result.steps,
    trainedTokens: result.trainedTokens,
    coreDigest: result.core.digest,
    ...told,
  };
}

function machine(version: string): Record<string, unknown> {
  return {
    os: Deno.build.os,
    arch: Deno.build.arch,
    cores: navigator.hardwareConcurrency,
    memoryGiB: Math.round(Deno.systemMemoryInfo().total / 2 ** 30),
    deno: Deno.version.deno,
    lembas: version,
  };
}

/** The curve of the run that was kept. */
export function curveOf(parts: Pick<ReportParts, "tenant" | "name" | "best">): Curve {
  const { result } = parts.best.outcome;
  const { steps, evaluations } = parts.best.history.data;
  return {
    title: `${parts.tenant}/${parts.name}`,
    training: steps,
    validation: [{ step: 0, loss: result.base.loss }, ...evaluations],
    base: result.base.loss,
    best: result.best.step,
  };
}

/** The table at the end, for people. */
export function summary(parts: ReportParts, paths: OutputPaths): string {
  const { best, core, seconds } = parts;
  const { result } = best.outcome;
  const [loss, accuracy] = parts.teacher ? ["KL", "agreement"] : ["loss", "accuracy"];
  const row = (label: string, { loss, accuracy }: Evaluation) =>
    `${label.padEnd(24)}${loss.toFixed(4).padStart(9)}${percent(accuracy).padStart(11)}`;
  return [
    ...(parts.runs.length === 1 ? [] : [...sweepTable(parts.runs, best), ""]),
    `${"".padEnd(24)}${loss.padStart(9)}${accuracy.padStart(11)}`,
    row("base", result.base),
    row(`core, step ${result.best.step} of ${result.steps}`, result.best),
    "",
    `trained   ${result.trainableParameters.toLocaleString("en-US")} parameters ` +
    `(rank ${result.core.rank}, ${result.core.modules.join(" ")})`,
    `tokens    ${tokensText(parts.runs, best, seconds)}, ${duration(seconds)} in all`,
    `core      ${core.path} (${formatBytes(core.bytes)})`,
    `factors   ${core.factorsPath}`,
    `report    ${paths.report}`,
    `curve     ${paths.curve}`,
  ].join("\n");
}

/** Of a run alone as it told; of a sweep, all runs together. */
function tokensText(runs: readonly EndedRun[], best: TrainedRun, seconds: number): string {
  const tokens = runs.filter(isTrained)
    .reduce((sum, { outcome }) => sum + outcome.result.trainedTokens, 0);
  const rate = runs.length === 1 ? best.history.tokensPerSecond : tokens / Math.max(seconds, 1e-3);
  const text = (count: number) => Math.round(count).toLocaleString("en-US");
  return rate === undefined ? text(tokens) : `${text(tokens)}, ${text(rate)} a second`;
}

function sweepTable(runs: readonly EndedRun[], best: TrainedRun): string[] {
  const width = Math.max(3, ...runs.map(({ variant }) => variantLabel(variant).length));
  return [
    `  ${"run".padEnd(width)}${"loss".padStart(9)}${"accuracy".padStart(11)}`,
    ...runs.map((run) => {
      const label = `${run === best ? "*" : " "} ${variantLabel(run.variant).padEnd(width)}`;
      if (run.outcome.type === "failed") return `${label}  failed: ${run.outcome.reason}`;
      const { best: { loss, accuracy }, refused } = run.outcome.result;
      return `${label}${loss.toFixed(4).padStart(9)}${percent(accuracy).padStart(11)}` +
        `${refused === undefined ? "" : "  refused"}`;
    }),
  ];
}

/** A word as a POSIX shell wants it. */
export function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
