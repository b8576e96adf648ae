// deno-lint-ignore-file no-console -- a program that prints what it measures
/**
 * `deno task bench quality-base`: a served base beside its own file in float32. Tells people as it
 * goes, and ends in one line of JSON.
 */
import { loadWeights } from "../../adapters/loaded_base.ts";
import { KeptQuality } from "../../adapters/quality.ts";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import type { DtypeChoice } from "../../src/executor/precision.ts";
import { floats } from "../../src/executor/layerwise.ts";
import type { Device } from "../../src/runtime/device.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { describeMachine } from "../machine.ts";
import { round } from "../stats.ts";
import { figureOf, NOTHING, type QualityFigure, withRow } from "./compare.ts";
import { HELP, parseQualityFlags, type QualityFlags } from "./flags.ts";
import { Reference } from "./reference.ts";

const TEXT = new URL("../../tests/fixtures/texts/heldout.txt", import.meta.url);
/** Rows whose logits are in memory together, of both. */
const ROWS = 128;

/** @throws {TypeError | RangeError} for flags that cannot be, or a text that fills no window */
export async function benchQuality(args: readonly string[]): Promise<void> {
  const flags = parseQualityFlags(args);
  if (flags === undefined) return console.log(HELP);
  const machine = await describeMachine();
  using checkpoint = await openCheckpoint(await resolveModel(flags.model));
  using device = openDevice("cpu");
  const windows = windowsOf(checkpoint, await Deno.readTextFile(flags.text ?? TEXT), flags);
  console.log(`${checkpoint.id}, ${windows.length} windows of ${windows[0].length} tokens`);
  const started = performance.now();
  using reference = await Reference.run(device, checkpoint, windows);
  console.log(`float32, layer by layer: ${seconds(started)} s`);
  const figures: QualityFigure[] = [];
  for (const dtype of flags.dtypes) {
    const start = performance.now();
    const figure = await compared(device, checkpoint, { ...flags, dtype }, windows, reference);
    figures.push(figure);
    console.log(`${describe(figure)} (${seconds(start)} s)`);
  }
  console.log(JSON.stringify({ mode: "quality-base", machine, settings: flags, figures }));
}

/** @throws {RangeError} where the text is shorter than a window */
function windowsOf(
  { config, tokenizer }: Checkpoint,
  text: string,
  { window, windows = Infinity }: QualityFlags,
): readonly (readonly number[])[] {
  const tokens = tokenizer.encode(text, { addSpecialTokens: false });
  const size = Math.min(window, config.maxPositions);
  const count = Math.min(windows, Math.floor(tokens.length / size));
  if (count === 0) {
    throw new RangeError(`Cannot bench: the text has ${tokens.length} tokens, a window ${size}`);
  }
  return Array.from({ length: count }, (_, i) => tokens.slice(i * size, (i + 1) * size));
}

/** Serves a base as the server does, compares it row by row, and keeps the figure for servers. */
async function compared(
  device: Device,
  checkpoint: Checkpoint,
  { dtype, maxBatch }: { readonly dtype: DtypeChoice; readonly maxBatch: number },
  windows: readonly (readonly number[])[],
  reference: Reference,
): Promise<QualityFigure> {
  const size = windows[0].length;
  const { vocabSize } = checkpoint.config;
  const base = await loadWeights(device, checkpoint, { dtype, maxBatch, maxContext: size });
  using made = new DisposableStack();
  made.defer(() => base.release());
  const lane = await base.lane();
  const logits = made.use(device.tensor("float32", [ROWS, vocabSize]));
  const wanted = made.use(device.tensor("float32", [ROWS, vocabSize]));
  let sums = NOTHING;
  for (const [window, tokens] of windows.entries()) {
    for (let past = 0; past < size; past += ROWS) {
      const part = tokens.slice(past, past + ROWS);
      using rows = device.view(logits, 0, [part.length, vocabSize]);
      await lane.logitsOf(part, past, rows);
      await reference.logits(window, past, part.length, floats(wanted));
      // The last token of a window has nothing after it.
      for (let i = 0; i < part.length && past + i + 1 < size; i++) {
        const row = (of: Float32Array) => of.subarray(i * vocabSize, (i + 1) * vocabSize);
        sums = withRow(sums, row(floats(wanted)), row(floats(logits)), tokens[past + i + 1]);
      }
    }
  }
  const figure = figureOf(base.dtype, sums);
  const kept = await KeptQuality.open(checkpoint, base);
  await kept.keep({ ...figure, tokens: sums.rows });
  return figure;
}

function describe(figure: QualityFigure): string {
  const { dtype, perplexity, reference, percent, error, divergence, agreement } = figure;
  const sign = percent < 0 ? "" : "+";
  return `${dtype}: perplexity ${round(perplexity, 3)}, float32 ${round(reference, 3)} ` +
    `(${sign}${round(percent, 2)} ± ${round(error, 2)}%), KL ${round(divergence, 5)}, ` +
    `the same likeliest token ${round(agreement, 2)}%`;
}

function seconds(start: number): number {
  return round((performance.now() - start) / 1e3, 1);
}
