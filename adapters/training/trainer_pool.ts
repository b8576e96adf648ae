/**
 * The trainers of a server: one for each factor set and method that jobs name, opened when the first
 * job comes. It owns their models' lifetimes: what no job uses is kept until another is opened, and
 * then released. It knows no job.
 */
import type { GradientModel } from "../../src/train/gradients/model.ts";
import { Trainer, type TrainerOptions } from "../../src/train/trainer.ts";

interface Opened {
  readonly model: GradientModel;
  readonly trainer: Trainer;
}

interface Slot {
  readonly opened: Promise<Opened>;
  users: number;
}

export class TrainerPool {
  readonly #options: TrainerOptions;
  readonly #slots = new Map<string, Slot>();

  constructor(options: TrainerOptions = {}) {
    this.#options = options;
  }

  /**
   * Runs `use` with the trainer of that key; jobs of the same key share it.
   * @throws what `open` or `use` throws; after a failure to open, the next caller tries again.
   */
  async with<T>(
    key: string,
    open: () => Promise<GradientModel>,
    use: (trainer: Trainer) => Promise<T>,
  ): Promise<T> {
    const slot = this.#slots.get(key) ?? this.#add(key, open);
    slot.users++;
    try {
      return await use((await slot.opened).trainer);
    } finally {
      slot.users--;
    }
  }

  /** Releases every model that no job uses. */
  async releaseIdle(): Promise<void> {
    for (const [key, slot] of this.#slots) {
      if (slot.users > 0) continue;
      this.#slots.delete(key);
      const opened = await slot.opened.catch(() => undefined);
      opened?.model.release();
    }
  }

  #add(key: string, open: () => Promise<GradientModel>): Slot {
    const opened = this.#open(open);
    const slot: Slot = { opened, users: 0 };
    this.#slots.set(key, slot);
    opened.catch(() => {
      if (this.#slots.get(key) === slot) this.#slots.delete(key);
    });
    return slot;
  }

  async #open(open: () => Promise<GradientModel>): Promise<Opened> {
    await this.releaseIdle();
    const model = await open();
    return { model, trainer: new Trainer(model, this.#options) };
  }
}
