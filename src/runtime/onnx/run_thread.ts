/**
 * One thread for all runs of a device. Deno's own pool would call from another thread each time,
 * which the system then places beside ONNX Runtime's spinning threads, and too often on top of one;
 * a thread that stays is faster and steadier.
 */
import { Worker } from "node:worker_threads";

/** Places in `RunThreadData.control`, and the values of `requests`. */
export const STATE = { requests: 0, completions: 1, none: 0, run: 1, stop: 2 } as const;

/** Places in `RunThreadData.call`: `Run`'s address, its arguments in order, and its result. */
export const CALL = {
  function: 0,
  session: 1,
  options: 2,
  inputNames: 3,
  inputs: 4,
  inputCount: 5,
  outputNames: 6,
  outputCount: 7,
  outputs: 8,
  status: 9,
} as const;

/** Shared memory between the threads. */
export interface RunThreadData {
  readonly control: Int32Array<SharedArrayBuffer>;
  readonly call: BigUint64Array<SharedArrayBuffer>;
}

/** `Run`'s address and arguments as addresses and counts. */
export type RunCall = readonly bigint[];

export class RunThread {
  readonly #data: RunThreadData = {
    control: new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT)),
    call: new BigUint64Array(new SharedArrayBuffer(10 * BigUint64Array.BYTES_PER_ELEMENT)),
  };
  #worker: Worker | undefined;
  #busy = false;
  #released = false;

  /** Whether a run is in flight; the thread takes one at a time. */
  get busy(): boolean {
    return this.#busy;
  }

  /** Calls `Run` on the thread; resolves with the status's address (0 = success). */
  async run(call: RunCall): Promise<bigint> {
    if (this.#busy) throw new TypeError("internal: the run thread is busy");
    this.#busy = true;
    const worker = this.#worker ??= this.#start();
    const { control, call: shared } = this.#data;
    const before = Atomics.load(control, STATE.completions);
    shared.set(call);
    const done = Atomics.waitAsync(control, STATE.completions, before);
    // Waiting alone would not keep the process alive.
    worker.ref();
    Atomics.store(control, STATE.requests, STATE.run);
    Atomics.notify(control, STATE.requests);
    await done.value;
    worker.unref();
    this.#busy = false;
    const status = shared[CALL.status];
    if (this.#released) this.#stop();
    return status;
  }

  /** Ends the thread, after the run in flight. */
  release(): void {
    this.#released = true;
    if (!this.#busy) this.#stop();
  }

  #stop(): void {
    if (this.#worker === undefined) return;
    this.#worker = undefined;
    Atomics.store(this.#data.control, STATE.requests, STATE.stop);
    Atomics.notify(this.#data.control, STATE.requests);
  }

  #start(): Worker {
    const worker = new Worker(new URL("./run_worker.ts", import.meta.url), {
      workerData: this.#data,
    });
    worker.unref();
    return worker;
  }
}
