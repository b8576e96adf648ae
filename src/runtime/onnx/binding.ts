/**
 * Runs: a session's inputs and outputs fixed to tensors, and the run options through which runs in
 * flight are cancelled. Trap: a binding must hold the C names, the pointer arrays and all they
 * point at for as long as it may run.
 */

import type { Binding } from "../device.ts";
import { Counted, type Handle } from "./handle.ts";
import { LOG_FATAL, type Ort } from "./ort.ts";
import { cString, type CStrings, cStrings, pointerArray, type Status } from "./ort_api.ts";
import type { OrtTensor } from "./tensor.ts";

export interface NamedTensor {
  readonly name: string;
  readonly tensor: OrtTensor;
}

/** Values as `Run` takes them: names and `OrtValue`s, in the same order. */
interface Values {
  readonly names: CStrings;
  readonly pointers: BigUint64Array<ArrayBuffer>;
  readonly count: bigint;
}

type Pointers = BigUint64Array<ArrayBuffer>;
type RunArguments = [
  session: Deno.PointerValue,
  options: Deno.PointerValue,
  inputNames: Pointers,
  inputs: Pointers,
  inputCount: bigint,
  outputNames: Pointers,
  outputCount: bigint,
  outputs: Pointers,
];

/** One set of run options, and whether the runs that use it were told to stop. */
interface Token {
  readonly options: Handle;
  runs: number;
  cancelled: boolean;
}

/**
 * The run options of a session's runs. Cancelling marks the options that the runs in flight hold;
 * later runs get new ones.
 */
export class RunControl {
  readonly #ort: Ort;
  readonly #recording: number | undefined;
  #token: Token;

  /** `recording`: the number, within its session, of what its runs record and repeat. */
  constructor(ort: Ort, { recording }: { readonly recording?: number } = {}) {
    this.#ort = ort;
    this.#recording = recording;
    this.#token = newToken(ort, recording);
  }

  begin(): Token {
    const token = this.#token;
    token.options.retain();
    token.runs++;
    return token;
  }

  end(token: Token): void {
    token.runs--;
    token.options.drop();
  }

  cancel(): void {
    const token = this.#token;
    if (token.runs === 0) return;
    this.#token = newToken(this.#ort, this.#recording);
    token.cancelled = true;
    const { api } = this.#ort;
    this.#ort.check(api.RunOptionsSetTerminate(token.options.pointer), "cancel runs");
    token.options.release();
  }

  release(): void {
    this.#token.options.release();
  }
}

/** A session's run on fixed tensors. Made by `OrtSession.bind`. */
export class OrtBinding implements Binding {
  readonly #ort: Ort;
  readonly #session: Handle;
  readonly #control: RunControl;
  readonly #inputs: Values;
  readonly #outputs: Values;
  /** Holds the session and the tensors until the binding and its run have ended. */
  readonly #life: Counted;
  #running = false;

  constructor(
    ort: Ort,
    session: Handle,
    control: RunControl,
    inputs: readonly NamedTensor[],
    outputs: readonly NamedTensor[],
    onFree: () => void = () => {},
  ) {
    this.#ort = ort;
    this.#session = session;
    this.#control = control;
    this.#inputs = valuesOf(inputs);
    this.#outputs = valuesOf(outputs);
    const tensors = [...inputs, ...outputs].map(({ tensor }) => tensor.handle);
    this.#life = new Counted(onFree, [session, ...tensors]);
  }

  async run(): Promise<void> {
    const token = this.#begin();
    try {
      const { thread, queue } = this.#ort;
      if (queue !== undefined) {
        return this.#settle(await queue.run(() => this.#runOnThread(token)), token);
      }
      // Two sessions that run at once: the second one takes a thread of Deno's pool.
      const status = thread.busy ? await this.#runOnPool(token) : await this.#runOnThread(token);
      this.#settle(status, token);
    } finally {
      this.#end(token);
    }
  }

  runSync(): void {
    if (this.#ort.queue !== undefined) {
      throw new TypeError("Cannot run binding on the calling thread: this device has a queue");
    }
    const token = this.#begin();
    try {
      const status = this.#ort.api.Run(...this.#callArguments(token));
      this.#settle(status, token);
    } finally {
      this.#end(token);
    }
  }

  async #runOnThread(token: Token): Promise<Status> {
    const address = (value: RunArguments[number]) => {
      if (typeof value === "bigint") return value;
      const pointer = value instanceof BigUint64Array ? Deno.UnsafePointer.of(value) : value;
      return Deno.UnsafePointer.value(pointer);
    };
    const call = this.#callArguments(token).map(address);
    const status = await this.#ort.thread.run([this.#ort.library.runAddress, ...call]);
    return Deno.UnsafePointer.create(status);
  }

  #runOnPool(token: Token): Promise<Status> {
    return this.#ort.api.RunAsync(...this.#callArguments(token));
  }

  /** `Run`'s arguments, in its order. */
  #callArguments(token: Token): RunArguments {
    const [i, o] = [this.#inputs, this.#outputs];
    return [
      this.#session.pointer,
      token.options.pointer,
      i.names.pointers,
      i.pointers,
      i.count,
      o.names.pointers,
      o.count,
      o.pointers,
    ];
  }

  release(): void {
    this.#life.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #begin(): Token {
    if (this.#life.released) throw new TypeError("Cannot run binding: it was released");
    if (this.#session.released) throw new TypeError("Cannot run binding: its session was released");
    if (this.#running) throw new TypeError("Cannot run binding: a run of it is still in flight");
    this.#running = true;
    this.#life.retain();
    return this.#control.begin();
  }

  #end(token: Token): void {
    this.#running = false;
    this.#control.end(token);
    this.#life.drop();
  }

  #settle(status: Status, token: Token): void {
    const error = this.#ort.error(status, "run session");
    if (error === undefined) return;
    throw token.cancelled ? new DOMException("The run was cancelled", "AbortError") : error;
  }
}

function valuesOf(values: readonly NamedTensor[]): Values {
  return {
    names: cStrings(values.map(({ name }) => name)),
    pointers: pointerArray(values.map(({ tensor }) => tensor.handle.pointer)),
    count: BigInt(values.length),
  };
}

function newToken(ort: Ort, recording: number | undefined): Token {
  const { api } = ort;
  const options = ort.handle(
    "run options",
    (out) => api.CreateRunOptions(out),
    api.ReleaseRunOptions,
  );
  ort.check(
    api.RunOptionsSetRunLogSeverityLevel(options.pointer, LOG_FATAL),
    "configure run options",
  );
  if (recording !== undefined) {
    const [key, value] = [cString("gpu_graph_id"), cString(String(recording))];
    ort.check(api.AddRunConfigEntry(options.pointer, key, value), "configure run options");
  }
  return { options, runs: 0, cancelled: false };
}
