/** What training shows: the bar, the lines, the curve and its ticks. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import type { TrainProgress } from "../../../../adapters/training/training.ts";
import { type Curve, curveSvg, ticksBetween } from "../../../../server/cli/train/curve.ts";
import { duration, TrainDisplay } from "../../../../server/cli/train/progress.ts";

/** A screen that keeps what is written, and a clock that stands until it is moved. */
function watch(isTerminal: boolean, runs = 1) {
  const clock = { now: 0 };
  const written: string[] = [];
  const screen = { isTerminal, columns: () => 100, write: (text: string) => written.push(text) };
  const display = new TrainDisplay({ screen, runs, now: () => clock.now });
  return { clock, written, display };
}

function start(steps: number, done = 0): TrainProgress {
  const settled = { epochs: 1, batchSize: 2, learningRateMultiplier: 1, learningRate: 0.005 };
  const base = { loss: 2, accuracy: 0.25 };
  return { type: "start", settled, steps, done, tokens: 0, tokensPerEpoch: 100, base };
}

function step(step: number, steps: number, loss = 1): TrainProgress {
  return {
    type: "step",
    step,
    steps,
    epoch: 1,
    loss,
    accuracy: 0.5,
    learningRate: 0.005,
    gradientNorm: 1,
    tokens: 10 * step,
    tokensPerSecond: 1234,
  };
}

Deno.test("off a terminal there is a line each ten seconds, the last step, and every evaluation", () => {
  const { clock, written, display } = watch(false);
  const hear = display.run("");
  hear(start(100));
  for (let i = 1; i <= 100; i++) {
    clock.now += 1000;
    hear(step(i, 100));
    if (i === 50) {
      hear({ type: "evaluation", step: i, evaluation: { loss: 1.5, accuracy: 0.375 } });
    }
  }
  display.close();
  const steps = written.filter((line) => line.startsWith("step ") && line.includes("tok/s"));
  assertEquals(steps.map((line) => /step (\d+)/.exec(line)?.[1]), [
    ..."1 11 21 31 41 51 61 71 81 91 100".split(" "),
  ]);
  assertEquals(steps[1], "step 11/100  loss 1.000  accuracy 50.0%  1,234 tok/s  ETA 1:29\n");
  assert(written.includes("step 50: validation loss 1.5000, accuracy 37.5%\n"));
  assert(written.includes("base: validation loss 2.0000, accuracy 25.0%\n"));
  assert(written.every((text) => text.endsWith("\n") && !text.includes("\x1b")));
});

Deno.test("on a terminal one line is drawn over, at most ten times a second, and fits", () => {
  const { clock, written, display } = watch(true);
  const hear = display.run("");
  hear(start(100));
  const before = written.length;
  for (let i = 1; i <= 100; i++) {
    clock.now += 50;
    hear(step(i, 100));
  }
  display.close();
  const drawn = written.slice(before);
  assertEquals(drawn.length, 52, "each second step, the last one, and a line feed");
  const bar = `[${"#".repeat(12)}${".".repeat(12)}]`;
  assertStringIncludes(drawn[25] ?? "", `\r\x1b[K${bar} 51/100  loss 1.000`);
  assert(drawn.every((text) => text.length <= 100 + "\r\x1b[K".length));
  assertEquals(drawn.at(-1), "\n");
});

Deno.test("a line that stays takes the bar's place, which comes again below it", () => {
  const { written, display } = watch(true);
  const hear = display.run("");
  hear(start(10));
  hear(step(1, 10));
  written.length = 0;
  hear({ type: "rollback", step: 2, reason: "the loss is NaN" });
  assertEquals(written[0], "\r\x1b[Kstep 2: went back, the loss is NaN\n");
  assertStringIncludes(written[1] ?? "", "\r\x1b[K[##");
});

Deno.test("a resumed run's time left counts its own steps only", () => {
  const { clock, written, display } = watch(false);
  const hear = display.run("");
  hear(start(100, 80));
  clock.now += 20_000;
  hear(step(81, 100));
  assertStringIncludes(written.join(""), "going on after step 80");
  assertMatch(written.at(-1) ?? "", /step 81\/100 .* ETA -/);
  clock.now += 10_000;
  hear(step(91, 100));
  assertMatch(written.at(-1) ?? "", /step 91\/100 .* ETA 0:09/);
});

Deno.test("runs of a sweep are one bar: steps and speeds are summed, losses are means", () => {
  const { clock, written, display } = watch(false, 2);
  const [one, two] = [display.run("rank=4"), display.run("rank=8")];
  one(start(10));
  two(start(10));
  one(step(1, 10, 1));
  clock.now += 10_000;
  two(step(1, 10, 3));
  assertMatch(written.at(-1) ?? "", /step 2\/20 {2}loss 2\.000 \(mean of 2\) .* 2,468 tok\/s/);
  one({ type: "stopped", step: 1, reason: "no better for 3 evaluations" });
  assertEquals(written.at(-1), "rank=4: step 1: stopped, no better for 3 evaluations\n");
  clock.now += 10_000;
  two(step(2, 10, 3));
  assertMatch(written.at(-1) ?? "", /step 12\/20 .* 1,234 tok\/s/);
});

Deno.test("durations are written as clocks do", () => {
  assertEquals([0, 59.6, 61, 3723, -1].map(duration), ["0:00", "1:00", "1:01", "1:02:03", "0:00"]);
});

Deno.test("ticks are round, equally far apart, and enclose what they are for", () => {
  for (const [low, high] of [[0, 1], [0.31, 0.34], [0, 700], [2.2, 2.9], [-1, 12345]] as const) {
    const ticks = ticksBetween(low, high, 6);
    const [first = NaN, second = NaN] = ticks;
    const gap = second - first;
    assert(first <= low && (ticks.at(-1) ?? NaN) >= high, `${ticks}`);
    assert(ticks.length >= 3 && ticks.length <= 9, `${ticks}`);
    assertMatch(gap.toExponential(6), /^[125]\.0+e/);
    ticks.forEach((tick, i) => assert(Math.abs(tick - first - i * gap) < gap * 1e-6));
  }
  assertThrows(() => ticksBetween(1, 1, 5), RangeError);
  assertThrows(() => ticksBetween(0, Infinity, 5), RangeError);
});

const CURVE: Curve = {
  title: `acme/<shelf> & "co"`,
  training: [{ step: 1, loss: 2 }, { step: 2, loss: 1 }, { step: 4, loss: 0.5 }],
  validation: [{ step: 2, loss: 1.25 }, { step: 4, loss: 0.75 }],
  base: 2.5,
  best: 4,
};

/** Points of a path's `d`. */
function pointsOf(svg: string, name: string): readonly (readonly [number, number])[] {
  const d = new RegExp(`<path class="${name} line" d="([^"]+L[^"]+)"`).exec(svg)?.[1] ?? "";
  return [...d.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
}

Deno.test("a curve's points lie where its ticks say", () => {
  const svg = curveSvg(CURVE);
  const labelAt = (text: string) => {
    const found = new RegExp(`<text x="([\\d.]+)" y="([\\d.]+)"[^>]*>${text}</text>`).exec(svg);
    return [Number(found?.[1]), Number(found?.[2])];
  };
  const [, yOne = NaN] = labelAt("1\\.0");
  const [xTwo = NaN] = labelAt("2");
  const [, point] = pointsOf(svg, "raw");
  assertEquals(point, [xTwo, Number((yOne - 4).toFixed(1))]);
  assertEquals(pointsOf(svg, "validation").length, 2);
  assertEquals(svg.match(/<circle/g)?.length, 2);
  assertStringIncludes(svg, "acme/&lt;shelf&gt; &amp;");
  assertStringIncludes(svg, "prefers-color-scheme: dark");
});

Deno.test("a curve of many steps stays small and all of it is inside", () => {
  const training = Array.from({ length: 50_000 }, (_, i) => ({
    step: i + 1,
    loss: i === 999 ? 1e6 : 2 / (1 + i / 1000),
  }));
  const svg = curveSvg({ ...CURVE, training, best: 50_000 });
  assert(svg.length < 30_000, `${svg.length} bytes`);
  const inside = pointsOf(svg, "training").filter(([, y]) => y >= 60 && y <= 394);
  assert(inside.length > 330, `${inside.length} of 360 points can be seen`);
  assertEquals(svg.includes("NaN"), false);
});

Deno.test("a curve without losses, or with one that is not finite, is a picture all the same", () => {
  const none = { training: [], validation: [], base: undefined, best: undefined };
  assertStringIncludes(curveSvg({ ...CURVE, ...none }), "nothing yet");
  const broken = curveSvg({ ...CURVE, training: [{ step: 1, loss: NaN }, { step: 2, loss: 1 }] });
  assertEquals(/NaN|Infinity/.test(broken), false);
});
