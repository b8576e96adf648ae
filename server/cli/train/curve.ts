/**
 * A loss curve as an SVG: training loss, validation loss and the base's loss over steps, readable
 * on light and dark ground.
 */

export interface Point {
  readonly step: number;
  readonly loss: number;
}

export interface Curve {
  readonly title: string;
  readonly training: readonly Point[];
  readonly validation: readonly Point[];
  /** The untrained base's validation loss. */
  readonly base: number | undefined;
  /** The step whose core was kept. */
  readonly best: number | undefined;
}

const WIDTH = 800;
const HEIGHT = 450;
const PLOT = { left: 64, right: WIDTH - 24, top: 60, bottom: HEIGHT - 56 } as const;
/** More points than pixels are averaged. */
const MOST_POINTS = 360;
/** Share of the training losses that the picture must show; accidents beyond it are cut. */
const SHOWN = 0.995;

const STYLE = `
  .ground { fill: #ffffff } text { fill: #24292f; font: 13px system-ui, sans-serif }
  .title { font-size: 15px; font-weight: 600 } .grid { stroke: #d8dee4 } .axis { stroke: #57606a }
  .line { fill: none; stroke-linejoin: round; stroke-linecap: round }
  .raw { stroke: #0969da; stroke-opacity: .3 } .training { stroke: #0969da; stroke-width: 2 }
  .validation { stroke: #bc4c00; stroke-width: 2 } .dot { fill: #bc4c00 }
  .base { stroke: #57606a; stroke-dasharray: 6 4 } .best { stroke: #1a7f37; stroke-dasharray: 2 3 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #181d18 } text { fill: #e6ebe4 } .grid { stroke: #2d362d }
    .axis, .base { stroke: #8b949e } .raw, .training { stroke: #58a6ff }
    .validation { stroke: #f0883e } .dot { fill: #f0883e } .best { stroke: #3fb950 }
  }`;

/** The picture; with nothing measured, an empty plot that says so. */
export function curveSvg(measured: Curve): string {
  const finite = (points: readonly Point[]) => points.filter(({ loss }) => Number.isFinite(loss));
  const curve = {
    ...measured,
    training: finite(measured.training),
    validation: finite(measured.validation),
  };
  const scale = scaleOf(curve);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">`,
    `<title>${escape(curve.title)}</title>`,
    `<desc>${escape(describe(curve))}</desc>`,
    `<style>${STYLE}\n</style>`,
    `<clipPath id="plot"><rect ${box(PLOT)}/></clipPath>`,
    `<rect class="ground" width="${WIDTH}" height="${HEIGHT}"/>`,
    `<text class="title" x="${PLOT.left}" y="22">${escape(curve.title)}</text>`,
    ...axes(scale),
    `<g clip-path="url(#plot)">`,
    ...series(curve, scale),
    `</g>`,
    ...legend(curve),
    `</svg>`,
  ];
  return parts.join("\n") + "\n";
}

interface Scale {
  readonly steps: readonly number[];
  readonly losses: readonly number[];
  readonly x: (step: number) => number;
  readonly y: (loss: number) => number;
}

function scaleOf({ training, validation, base }: Curve): Scale {
  const sorted = training.map(({ loss }) => loss).sort((a, b) => a - b);
  const high = sorted[Math.ceil(sorted.length * SHOWN) - 1];
  const values = [
    ...sorted.slice(0, 1),
    ...(high === undefined ? [] : [high]),
    ...validation.map(({ loss }) => loss),
    ...(base === undefined ? [] : [base]),
  ];
  const lastStep = Math.max(1, ...[...training, ...validation].map(({ step }) => step));
  const steps = ticksBetween(0, lastStep, 8).filter(Number.isInteger);
  // the axis begins at 0 unless all losses lie in a narrow band far above it
  const [low, top] = [Math.min(...values, Infinity), Math.max(...values, 0)];
  const from = Number.isFinite(low) && low > top / 2 ? low : 0;
  const losses = ticksBetween(from, top > from ? top : from + 1, 6);
  const [bottom, ceiling] = [losses[0] ?? 0, losses.at(-1) ?? 1];
  return {
    steps,
    losses,
    x: (step) => PLOT.left + (PLOT.right - PLOT.left) * step / lastStep,
    y: (loss) => PLOT.bottom - (PLOT.bottom - PLOT.top) * (loss - bottom) / (ceiling - bottom),
  };
}

function axes({ steps, losses, x, y }: Scale): string[] {
  const decimals = Math.max(...losses.map((value) => decimalsOf(value)));
  const middle = (PLOT.top + PLOT.bottom) / 2;
  return [
    ...losses.flatMap((value) => [
      `<line class="grid" x1="${PLOT.left}" x2="${PLOT.right}" y1="${px(y(value))}" y2="${
        px(y(value))
      }"/>`,
      `<text x="${PLOT.left - 8}" y="${px(y(value) + 4)}" text-anchor="end">${
        value.toFixed(decimals)
      }</text>`,
    ]),
    ...steps.filter((step) => x(step) <= PLOT.right + 0.5).flatMap((step) => [
      `<line class="axis" x1="${px(x(step))}" x2="${px(x(step))}" y1="${PLOT.bottom}" y2="${
        PLOT.bottom + 5
      }"/>`,
      `<text x="${px(x(step))}" y="${PLOT.bottom + 20}" text-anchor="middle">${step}</text>`,
    ]),
    `<path class="axis line" d="M${PLOT.left} ${PLOT.top}V${PLOT.bottom}H${PLOT.right}"/>`,
    `<text x="${(PLOT.left + PLOT.right) / 2}" y="${HEIGHT - 16}" text-anchor="middle">step</text>`,
    `<text transform="translate(18 ${middle}) rotate(-90)" text-anchor="middle">` +
    `loss, nats a token</text>`,
  ];
}

function series({ training, validation, base, best }: Curve, { x, y }: Scale): string[] {
  const across = (value: number) => `M${PLOT.left} ${px(y(value))}H${PLOT.right}`;
  const path = (points: readonly Point[]) =>
    points.map(({ step, loss }, i) => `${i === 0 ? "M" : "L"}${px(x(step))} ${px(y(loss))}`)
      .join("");
  const raw = thin(training);
  return [
    base === undefined ? "" : `<path class="base line" d="${across(base)}"/>`,
    best === undefined
      ? ""
      : `<path class="best line" d="M${px(x(best))} ${PLOT.top}V${PLOT.bottom}"/>`,
    raw.length === 0 ? "" : `<path class="raw line" d="${path(raw)}"/>`,
    raw.length === 0 ? "" : `<path class="training line" d="${path(smooth(raw))}"/>`,
    validation.length === 0 ? "" : `<path class="validation line" d="${path(validation)}"/>`,
    ...validation.map(({ step, loss }) =>
      `<circle class="dot" cx="${px(x(step))}" cy="${px(y(loss))}" r="3"/>`
    ),
  ].filter((part) => part !== "");
}

function legend({ training, validation, base, best }: Curve): string[] {
  const entries = [
    ...(training.length === 0 ? [] : [["training", "training loss"]]),
    ...(validation.length === 0 ? [] : [["validation", "validation loss"]]),
    ...(base === undefined ? [] : [["base", `base's loss, ${base.toFixed(3)}`]]),
    ...(best === undefined ? [] : [["best", `best, step ${best}`]]),
  ];
  if (training.length + validation.length === 0) {
    return [`<text x="${WIDTH / 2}" y="${HEIGHT / 2}" text-anchor="middle">nothing yet</text>`];
  }
  return entries.flatMap(([name, text], i) => {
    const at = PLOT.left + 165 * i;
    return [
      `<path class="${name} line" d="M${at} 41h24"/>`,
      `<text x="${at + 30}" y="45">${text}</text>`,
    ];
  });
}

/** Means of equal stretches, so that a long run stays a small file. */
function thin(points: readonly Point[]): readonly Point[] {
  if (points.length <= MOST_POINTS) return points;
  const stretch = points.length / MOST_POINTS;
  return Array.from({ length: MOST_POINTS }, (_, i) => {
    const part = points.slice(Math.floor(i * stretch), Math.floor((i + 1) * stretch));
    const mean = (pick: (point: Point) => number) =>
      part.reduce((sum, point) => sum + pick(point), 0) / part.length;
    return { step: mean(({ step }) => step), loss: mean(({ loss }) => loss) };
  });
}

/** A running mean over about a twentieth of the run, centred, so that it does not lag. */
function smooth(points: readonly Point[]): readonly Point[] {
  const reach = Math.floor(points.length / 40);
  return points.map(({ step }, i) => {
    const near = Math.min(reach, i, points.length - 1 - i);
    const part = points.slice(i - near, i + near + 1);
    return { step, loss: part.reduce((sum, { loss }) => sum + loss, 0) / part.length };
  });
}

function describe({ training, validation, base }: Curve): string {
  const [first, last] = [training[0], training.at(-1)];
  const said = [
    first === undefined || last === undefined
      ? "No step yet"
      : `Training loss from ${first.loss.toFixed(3)} to ${last.loss.toFixed(3)}`,
    validation.length === 0
      ? ""
      : `lowest validation loss ${Math.min(...validation.map(({ loss }) => loss)).toFixed(3)}`,
    base === undefined ? "" : `the base's is ${base.toFixed(3)}`,
  ];
  return `${said.filter((part) => part !== "").join("; ")}.`;
}

function decimalsOf(value: number): number {
  return String(Number(value.toPrecision(6))).split(".")[1]?.length ?? 0;
}

function box({ left, right, top, bottom }: typeof PLOT): string {
  return `x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"`;
}

function px(value: number): string {
  return String(Number(value.toFixed(1)));
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/**
 * Multiples of 1, 2 or 5 times a power of ten, from at most `low` to at least `high`, of which about
 * `wanted` steps make the way.
 *
 * ```ts
 * import { ticksBetween } from "./curve.ts";
 * import { assertEquals } from "@std/assert";
 * assertEquals(ticksBetween(0, 2.3, 5), [0, 0.5, 1, 1.5, 2, 2.5]);
 * ```
 *
 * @throws {RangeError} where `high` is not above `low`, or either is not finite.
 */
export function ticksBetween(low: number, high: number, wanted: number): readonly number[] {
  if (!(high > low) || !Number.isFinite(high - low)) {
    throw new RangeError(`Cannot place ticks from ${low} to ${high}: a finite rise is wanted`);
  }
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((one) => one * power >= rough) ?? 10);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from(
    { length: last - first + 1 },
    (_, i) => Number(((first + i) * step).toPrecision(12)),
  );
}
