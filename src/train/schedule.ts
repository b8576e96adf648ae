/**
 * Learning rates over the steps of a job: linear warm-up, then cosine, linear or constant. Pure
 * arithmetic; what the peak rate is (`rate.ts`) it does not know.
 */

export type ScheduleShape = "cosine" | "linear" | "constant";

export interface ScheduleOptions {
  readonly shape: ScheduleShape;
  /** Share of all steps, 0 to 1, over which the rate rises to its peak. */
  readonly warmup: number;
  /** Steps of the whole job. */
  readonly steps: number;
}

/**
 * The rate of a step as a share of the peak, in (0, 1]. The first step of a warm-up of w steps has
 * 1 / w; the fall reaches 0 one step after the last, so that no step is wasted.
 *
 * @param step from 0
 */
export function scheduleAt({ shape, warmup, steps }: ScheduleOptions, step: number): number {
  const rising = Math.min(Math.round(warmup * steps), steps - 1);
  if (step < rising) return (step + 1) / rising;
  const progress = (step - rising) / (steps - rising);
  switch (shape) {
    case "cosine":
      return (1 + Math.cos(Math.PI * progress)) / 2;
    case "linear":
      return 1 - progress;
    case "constant":
      return 1;
  }
}
