/** A device that counts what crosses between host and device memory: bytes, and calls to it. */
import type { Binding, Copy, Device, Session, Tensor } from "../../src/runtime/device.ts";

export interface Crossings {
  bytesUp: number;
  bytesDown: number;
  runs: number;
  copies: number;
}

export class CountedDevice {
  /** The same device, counting. */
  readonly device: Device;
  readonly #counts: Crossings = { bytesUp: 0, bytesDown: 0, runs: 0, copies: 0 };

  constructor(device: Device) {
    const own: Partial<Device> = {
      session: async (...args) => this.#counted(await device.session(...args)),
      copy: (copies) => {
        this.#cross(copies);
        return device.copy(copies);
      },
      upload: (to, data) => {
        this.#counts.copies++;
        if (to.data === undefined) this.#counts.bytesUp += data.byteLength;
        return device.upload(to, data);
      },
      download: (from) => {
        this.#counts.copies++;
        if (from.data === undefined) this.#counts.bytesDown += from.byteLength;
        return device.download(from);
      },
    };
    this.device = new Proxy(device, {
      get: (target, name) => {
        const found = Reflect.get(own, name) ?? Reflect.get(target, name, target);
        return typeof found === "function" ? found.bind(target) : found;
      },
    });
  }

  /** What crossed since the last call. */
  take(): Crossings {
    const taken = { ...this.#counts };
    Object.assign(this.#counts, { bytesUp: 0, bytesDown: 0, runs: 0, copies: 0 });
    return taken;
  }

  #cross(copies: readonly Copy[]): void {
    this.#counts.copies++;
    for (const { from, to } of copies) {
      if (from.data !== undefined && to.data === undefined) this.#counts.bytesUp += to.byteLength;
      if (from.data === undefined && to.data !== undefined) this.#counts.bytesDown += to.byteLength;
    }
  }

  #counted(session: Session): Session {
    const bind: Session["bind"] = (inputs, outputs) => {
      const binding = session.bind(inputs, outputs);
      const [up, down] = [hostBytes(inputs), hostBytes(outputs)];
      const run: Binding["run"] = () => {
        this.#counts.runs++;
        this.#counts.bytesUp += up;
        this.#counts.bytesDown += down;
        return binding.run();
      };
      return withOwn(binding, { run });
    };
    return withOwn(session, { bind });
  }
}

function hostBytes(tensors: Readonly<Record<string, Tensor>>): number {
  return Object.values(tensors)
    .reduce((sum, { data, byteLength }) => sum + (data === undefined ? 0 : byteLength), 0);
}

/** An object with some of its methods replaced. */
function withOwn<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get: (target, name) => {
      const found = Reflect.get(own, name) ?? Reflect.get(target, name, target);
      return typeof found === "function" ? found.bind(target) : found;
    },
  });
}
