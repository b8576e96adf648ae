/**
 * Where a training's files lie and how they get there: the core and its factor set as `deno task
 * serve --adapters DIR` reads them, the report and the curve beside the core, checkpoints while it
 * runs.
 */
import { writeCore, writeFactors } from "../../../adapters/lotr/format.ts";
import type { Core } from "../../../adapters/lotr/core.ts";
import { shortDigest } from "../../../adapters/lotr/stack.ts";
import type { FactorSet } from "../../../adapters/lotr/factors.ts";
import {
  exists,
  parentOf,
  removeIfThere,
  temporaryBeside,
  writeAtomically,
} from "../../../src/checkpoint/fetch/cache.ts";
import { EMPTY_HISTORY, type History, type HistoryData, parseHistory } from "./history.ts";
import { type Variant, variantLabel } from "./sweep.ts";

export interface OutputPaths {
  readonly out: string;
  /** `DIR/TENANT/NAME` */
  readonly stem: string;
  /** Of the core, if it is published. */
  readonly core: string;
  /** Of the core, if the gate refuses it. */
  readonly refused: string;
  readonly report: string;
  readonly curve: string;
}

/** `DIR/TENANT/NAME…` */
export function outputPaths(
  { out, tenant, name }: { readonly out: string; readonly tenant: string; readonly name: string },
): OutputPaths {
  const stem = `${out}/${tenant}/${name}`;
  return {
    out,
    stem,
    core: `${stem}.safetensors`,
    refused: `${stem}.refused.safetensors`,
    report: `${stem}.report.json`,
    curve: `${stem}.curve.svg`,
  };
}

/** Makes the directory now, so that hours of training do not end where nothing can be written. */
export async function prepareOutput({ stem }: OutputPaths): Promise<void> {
  const directory = parentOf(stem);
  try {
    await Deno.mkdir(directory, { recursive: true });
    const probe = temporaryBeside(stem);
    await Deno.writeFile(probe, new Uint8Array(0));
    await Deno.remove(probe);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new TypeError(`Cannot write to ${directory}: ${reason}`, { cause: error });
  }
}

export interface WrittenCore {
  readonly path: string;
  readonly bytes: number;
  /** Of the core as the file holds it. */
  readonly digest: string;
  readonly factorsPath: string;
}

/** Writes a factor set where it is not there yet; returns its path. */
export async function keepFactors(paths: OutputPaths, factors: FactorSet): Promise<string> {
  const path = factorsPathOf(paths, factors.digest);
  if (!await exists(path)) await writeAtomically(path, writeFactors(factors));
  return path;
}

function factorsPathOf({ out }: OutputPaths, digest: string): string {
  return `${out}/factors-${shortDigest(digest)}.safetensors`;
}

/** Writes the factor set (once for each) and then the core, so that no core lacks its set. */
export async function writeTrained(
  paths: OutputPaths,
  core: Core,
  factors: FactorSet,
  verdict: "published" | "refused",
): Promise<WrittenCore> {
  const factorsPath = await keepFactors(paths, factors);
  const path = verdict === "published" ? paths.core : paths.refused;
  const bytes = writeCore(core);
  await writeAtomically(path, bytes);
  // the other one would be served beside it and tell of another run
  if (verdict === "published") await removeIfThere(paths.refused);
  return { path, bytes: bytes.length, digest: core.digest, factorsPath };
}

/** What a run that was cut off has left. */
export interface Saved {
  readonly checkpoint: Uint8Array;
  readonly history: HistoryData;
  /** Where its factor set lies: what is the default one may have changed since. */
  readonly factorsPath: string | undefined;
}

/** The checkpoint of one run and its history beside it. */
export class CheckpointFile {
  readonly path: string;
  readonly #paths: OutputPaths;
  readonly #historyPath: string;

  constructor(paths: OutputPaths, variant: Variant) {
    this.#paths = paths;
    const slug = variantLabel(variant).replaceAll("=", "-").replaceAll(" ", "_");
    const stem = `${paths.stem}${slug === "" ? "" : `.${slug}`}`;
    this.path = `${stem}.checkpoint.safetensors`;
    this.#historyPath = `${stem}.checkpoint.json`;
  }

  exists(): Promise<boolean> {
    return exists(this.path);
  }

  /** Undefined where there is none. */
  async read(): Promise<Saved | undefined> {
    if (!await exists(this.path)) return undefined;
    const known = await exists(this.#historyPath);
    const history = known
      ? parseHistory(await Deno.readTextFile(this.#historyPath))
      : EMPTY_HISTORY;
    const checkpoint = await Deno.readFile(this.path);
    const { factors } = history;
    const factorsPath = factors === undefined ? undefined : factorsPathOf(this.#paths, factors);
    return { checkpoint, history, factorsPath };
  }

  /** The history first: it may know more than the checkpoint, and never less. */
  async write(bytes: Uint8Array, history: History, factors: FactorSet): Promise<void> {
    const data: HistoryData = { factors: factors.digest, ...history.data };
    await writeAtomically(this.#historyPath, JSON.stringify(data));
    await writeAtomically(this.path, bytes);
  }

  async remove(): Promise<void> {
    await removeIfThere(this.path);
    await removeIfThere(this.#historyPath);
  }
}
