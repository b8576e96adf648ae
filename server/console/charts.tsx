/**
 * Small charts as SVG, drawn by the server so that the console needs no script for them: lines
 * over the last minutes, and bars by day. The style sheet has the colours.
 */
import type { JSX } from "hono/jsx/jsx-runtime";
import type { Child } from "hono/jsx";
import { ticksBetween } from "../cli/train/curve.ts";

const WIDTH = 480;
const HEIGHT = 150;
const PLOT = { left: 56, right: WIDTH - 6, top: 10, bottom: HEIGHT - 22 } as const;

/** One line; `tone` names its colour in the style sheet. */
export interface Line {
  readonly name: string;
  readonly tone: "first" | "second";
  readonly values: readonly number[];
}

export interface LineChartOptions {
  /** What it shows, for screen readers. */
  readonly label: string;
  readonly lines: readonly Line[];
  /** The scale goes up to this at least. */
  readonly least: number;
  readonly format: (value: number) => string;
  /** Under the left and the right end. */
  readonly ends: readonly [string, string];
}

/** Lines from the oldest value at the left to the newest at the right, over one scale from 0. */
export function LineChart({ label, lines, least, format, ends }: LineChartOptions): JSX.Element {
  const top = Math.max(least, ...lines.flatMap(({ values }) => values));
  const ticks = ticksBetween(0, top, 3);
  const ceiling = ticks.at(-1) ?? top;
  const y = (value: number) => PLOT.bottom - (PLOT.bottom - PLOT.top) * value / ceiling;
  return (
    <figure class="chart">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label}>
        <Grid ticks={ticks} y={y} format={format} />
        {lines.map((line) => (
          <g class={`series ${line.tone}`}>
            <path class="area" d={`${pathOf(line.values, y)}V${PLOT.bottom}H${PLOT.left}Z`} />
            <path class="line" d={pathOf(line.values, y)} />
          </g>
        ))}
        <text class="tick" x={PLOT.left} y={HEIGHT - 4}>{ends[0]}</text>
        <text class="tick end" x={PLOT.right} y={HEIGHT - 4}>{ends[1]}</text>
      </svg>
      {lines.length > 1 && <Legend lines={lines} />}
    </figure>
  );
}

function Legend({ lines }: { readonly lines: readonly Line[] }) {
  return (
    <figcaption class="legend">
      {lines.map(({ name, tone }) => <span class={`key ${tone}`}>{name}</span>)}
    </figcaption>
  );
}

interface GridOptions {
  readonly ticks: readonly number[];
  readonly y: (value: number) => number;
  readonly format: (value: number) => string;
}

function Grid({ ticks, y, format }: GridOptions): Child {
  return (
    <>
      {ticks.map((value) => (
        <>
          <line class="grid" x1={PLOT.left} x2={PLOT.right} y1={px(y(value))} y2={px(y(value))} />
          <text class="tick end level" x={PLOT.left - 6} y={px(y(value))}>{format(value)}</text>
        </>
      ))}
    </>
  );
}

function pathOf(values: readonly number[], y: (value: number) => number): string {
  const step = (PLOT.right - PLOT.left) / Math.max(1, values.length - 1);
  return values.map((value, i) =>
    `${i === 0 ? "M" : "L"}${px(PLOT.left + i * step)} ${px(y(value))}`
  )
    .join("");
}

export interface Bar {
  readonly name: string;
  readonly value: number;
  /** Read aloud and shown when pointed at. */
  readonly title: string;
}

/** The bars' scale goes up to this at least. */
const LEAST_BAR = 100;

export interface BarChartOptions {
  readonly label: string;
  readonly bars: readonly Bar[];
  readonly format: (value: number) => string;
}

/** Bars from left to right, the first and the last one named. */
export function BarChart({ label, bars, format }: BarChartOptions): JSX.Element {
  const ticks = ticksBetween(0, Math.max(LEAST_BAR, ...bars.map(({ value }) => value)), 3);
  const ceiling = ticks.at(-1) ?? 1;
  const y = (value: number) => PLOT.bottom - (PLOT.bottom - PLOT.top) * value / ceiling;
  const width = (PLOT.right - PLOT.left) / Math.max(1, bars.length);
  return (
    <figure class="chart bars">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label}>
        <Grid ticks={ticks} y={y} format={format} />
        {bars.map(({ value, title }, i) => (
          <rect
            class="bar"
            x={px(PLOT.left + i * width + width * 0.15)}
            y={px(y(value))}
            width={px(width * 0.7)}
            height={px(PLOT.bottom - y(value))}
            rx="2"
          >
            <title>{title}</title>
          </rect>
        ))}
        <text class="tick" x={PLOT.left} y={HEIGHT - 4}>{bars[0]?.name}</text>
        <text class="tick end" x={PLOT.right} y={HEIGHT - 4}>{bars.at(-1)?.name}</text>
      </svg>
    </figure>
  );
}

function px(value: number): string {
  return String(Number(value.toFixed(1)));
}
