/**
 * Decode steps one after the other without the host in between: what a step draws in the device's own
 * memory is the next one's input there. One upload goes before them, one download comes after. For
 * rows whose draws need their logits and a uniform number, nothing else.
 */
import type { Binding, Copy, Device, Session, Tensor } from "../../runtime/device.ts";

/** Steps that follow each other so at most. */
export const MOST_STEPS = 8;

/** What a row's draw is given: 1 over the temperature (0 = greedy), a uniform number, its number. */
export type Draw = readonly [inverse: number, uniform: number, row: number];

/** One step's draws: `given` [size, 3] and `picked` [size, 2] on the host and on the device. */
interface Turn {
  readonly up: Copy;
  readonly down: Copy;
  readonly numbers: Float32Array;
  readonly tokens: Float32Array;
  readonly draw: Binding;
}

export interface FedPlaces {
  readonly device: Device;
  /** Of the graph `fed`. */
  readonly session: Session;
  /** The decode step over `step` [4, size] → `logits` [size, V]. */
  readonly decode: Binding;
  readonly step: Tensor;
  readonly logits: Tensor;
}

export class FedSteps implements Disposable {
  readonly #places: FedPlaces;
  readonly #turns: Turn[] = [];
  readonly #made: DisposableStack;
  /** Of what follows a step to its input. */
  readonly #next: Copy;

  private constructor(places: FedPlaces, next: Tensor, made: DisposableStack) {
    this.#places = places;
    this.#next = { from: next, to: places.step };
    this.#made = made;
  }

  static async open(places: FedPlaces): Promise<FedSteps> {
    using made = new DisposableStack();
    const { device, session, step, logits } = places;
    const next = made.use(await device.allocate("int32", step.shape));
    const steps = new FedSteps(places, next, made.move());
    using whole = new DisposableStack();
    whole.use(steps);
    for (let i = 0; i < MOST_STEPS; i++) {
      const both = async (width: number) => {
        const shape = [logits.shape[0], width];
        const here = steps.#made.use(device.tensor("float32", shape));
        return { here, there: steps.#made.use(await device.allocate("float32", shape)) };
      };
      const [given, picked] = [await both(3), await both(2)];
      const draw = session.bind(
        { logits, step, given: given.there },
        { picked: picked.there, next },
      );
      steps.#turns.push({
        up: { from: given.here, to: given.there },
        down: { from: picked.there, to: picked.here },
        numbers: given.here.data as Float32Array,
        tokens: picked.here.data as Float32Array,
        draw: steps.#made.use(draw),
      });
    }
    whole.move();
    return steps;
  }

  /**
   * Runs a step for each of `draws`, whose rows are those of the batch from the first on; `first` is
   * what else is uploaded before. @returns the tokens of each step
   */
  async run(first: Copy, draws: readonly (readonly Draw[])[]): Promise<readonly number[][]> {
    const { device, decode } = this.#places;
    const turns = this.#turns.slice(0, draws.length);
    turns.forEach(({ numbers }, i) => fill(numbers, draws[i]));
    await device.copy([first, ...turns.map(({ up }) => up)]);
    for (const [i, { draw }] of turns.entries()) {
      if (i > 0) await device.copy([this.#next]);
      await decode.run();
      await draw.run();
    }
    await device.copy(turns.map(({ down }) => down));
    return turns.map(({ tokens }, i) => draws[i].map((_, row) => tokens[2 * row]));
  }

  [Symbol.dispose](): void {
    this.#made.dispose();
  }
}

/** Rows that nobody asks for draw their best. */
function fill(numbers: Float32Array, draws: readonly Draw[]): void {
  for (let row = 0; row < numbers.length / 3; row++) {
    numbers.set(draws[row] ?? [0, 0, row], 3 * row);
  }
}
