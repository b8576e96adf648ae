/** An adapter source without files: cores whose digest is all there is to them. */
import { setImmediate } from "node:timers";
import type { AdapterRef, AdapterSource, CoreLease } from "../../src/engine/request/adapter.ts";

export interface FakeAdaptersOptions {
  /** Turns of the event loop a cold core takes; undefined = all are resident. */
  readonly cold?: (ref: AdapterRef) => number | undefined;
  /** Refuses a core. */
  readonly fails?: (ref: AdapterRef) => Error | undefined;
}

export class FakeAdapters implements AdapterSource {
  /** Leases held now. */
  held = 0;
  readonly #options: FakeAdaptersOptions;

  constructor(options: FakeAdaptersOptions = {}) {
    this.#options = options;
  }

  acquire(ref: AdapterRef): CoreLease | Promise<CoreLease> {
    const turns = this.#options.cold?.(ref);
    return turns === undefined ? this.#lease(ref) : this.#later(ref, turns);
  }

  async #later(ref: AdapterRef, turns: number): Promise<CoreLease> {
    for (let i = 0; i < turns; i++) {
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
    return this.#lease(ref);
  }

  #lease(ref: AdapterRef): CoreLease {
    const error = this.#options.fails?.(ref);
    if (error !== undefined) throw error;
    this.held++;
    let released = false;
    const release = () => {
      if (released) throw new Error("contract: a core is released once");
      released = true;
      this.held--;
    };
    return { core: { digest: ref.digest, data: new Float32Array(0) }, release };
  }
}

/** An adapter reference by name; its digest follows from name and version. */
export function adapter(name: string, factors = "factors-a"): AdapterRef {
  return { name, digest: `core of ${name}`, factors };
}
