/** A source of cores without files, whose digest is all there is to them. */
import { setImmediate } from "node:timers";
import type { AdapterSource, CoreLease, ServedCore } from "../../src/engine/request/request.ts";

export interface FakeAdaptersOptions {
  /** Turns of the event loop a cold core takes; undefined = all are resident. */
  readonly cold?: (ref: ServedCore) => number | undefined;
  /** Refuses a core. */
  readonly fails?: (ref: ServedCore) => Error | undefined;
}

export class FakeAdapters implements AdapterSource {
  /** Leases held now. */
  held = 0;
  readonly #options: FakeAdaptersOptions;

  constructor(options: FakeAdaptersOptions = {}) {
    this.#options = options;
  }

  acquire(ref: ServedCore): CoreLease | Promise<CoreLease> {
    const turns = this.#options.cold?.(ref);
    return turns === undefined ? this.#lease(ref) : this.#later(ref, turns);
  }

  async #later(ref: ServedCore, turns: number): Promise<CoreLease> {
    for (let i = 0; i < turns; i++) {
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
    return this.#lease(ref);
  }

  #lease(ref: ServedCore): CoreLease {
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

/** A core by name; its digest follows from name and version. */
export function adapter(name: string, factors = "factors-a"): ServedCore {
  const model = name.replace(/@\d+$/, "");
  const [tenant = ""] = model.includes("/") ? model.split("/") : [];
  const digest = `core of ${name}`;
  return { name, digest, factors, tenant, model, source: "test", created: 1_700_000_000 };
}
