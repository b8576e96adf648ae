/**
 * A worker that is called by name, with types: arguments, results, progress, abort, and errors that
 * keep their class, name and fields. comlink has neither abort nor an end for calls whose worker fell.
 * The trap: a start holds up this thread for 15 to 100 ms, so what must not wait starts it early.
 */
import type { Answered, Asked, Moved, ServedCall, Work } from "./worker_serve.ts";

type Argument<H> = H extends (argument: infer A, ...rest: never[]) => unknown ? A : never;
type Progress<H> = H extends (argument: never, call: ServedCall<infer P>) => unknown ? P : never;
type Result<H> = H extends (...args: never[]) => infer R ? Unmoved<Awaited<R>> : never;
type Unmoved<R> = R extends Moved<infer V> ? V : R;

export interface CallOptions<Progress> {
  /** What the argument hands over instead of having it copied. */
  readonly transfer?: Transferable[] | undefined;
  /** The call is given up with its reason; a handler that computes without a pause goes on. */
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((value: Progress) => void) | undefined;
}

export interface WorkerThreadOptions {
  /** The worker's module, which calls `serve`. */
  readonly module: URL;
  /** What fails where the thread does, as an error says it: "Cannot parse a body". */
  readonly failure: string;
  /** Told where the thread fell over by itself, after the calls that waited were. */
  readonly onFall?: (error: Error) => void;
}

interface Waiting extends Pick<CallOptions<unknown>, "progress"> {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The asking side. The worker starts with the first call, or `start`; after a fall, or after it was
 * ended, the next call starts another one. It keeps the process alive until it is disposed of.
 *
 * @example
 * ```ts ignore
 * import type { DoubleWork } from "./double_worker.ts";
 * const module = new URL("./double_worker.ts", import.meta.url);
 * using thread = new WorkerThread<DoubleWork>({ module, failure: "Cannot double" });
 * await thread.call("double", 21); // 42
 * ```
 */
export class WorkerThread<W extends Work> implements Disposable {
  readonly #options: WorkerThreadOptions;
  #worker: Worker | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #calls = 0;

  constructor(options: WorkerThreadOptions) {
    this.#options = options;
  }

  /** Starts the worker, where none runs. */
  start(): void {
    this.#worker ??= this.#started();
  }

  /**
   * What the worker's handler of this name makes of the argument.
   *
   * @throws what the handler threw; what `signal` was aborted with; {Error} where the thread ended
   */
  async call<N extends keyof W & string>(
    name: N,
    argument: Argument<W[N]>,
    { transfer = [], signal, progress }: CallOptions<Progress<W[N]>> = {},
  ): Promise<Result<W[N]>> {
    signal?.throwIfAborted();
    this.start();
    const id = this.#calls++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject, progress: progress as Waiting["progress"] });
    const abort = () => {
      this.#send({ type: "abort", id }, []);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", abort);
    try {
      this.#send({ type: "call", id, name, argument }, transfer);
      return await promise as Result<W[N]>;
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#waiting.delete(id);
    }
  }

  /** Ends the worker at once; calls that wait fail. */
  [Symbol.dispose](): void {
    this.#end(new Error(`${this.#options.failure}: its thread was ended`));
  }

  #send(asked: Asked, transfer: Transferable[]): void {
    this.#worker?.postMessage(asked, transfer);
  }

  #started(): Worker {
    const { module, failure, onFall } = this.#options;
    const worker = new Worker(module, { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<Answered>) => this.#hear(data);
    worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`${failure}: its thread ended: ${event.message}`);
      this.#end(error);
      onFall?.(error);
    };
    return worker;
  }

  #hear(answer: Answered): void {
    const waiting = this.#waiting.get(answer.id);
    switch (answer.type) {
      case "progress":
        return waiting?.progress?.(answer.value);
      case "done":
        return waiting?.resolve(answer.value);
      case "failed":
        return waiting?.reject(unpacked(answer));
    }
  }

  #end(error: Error): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const { reject } of this.#waiting.values()) reject(error);
  }
}

function unpacked({ error, fields }: Answered & { readonly type: "failed" }): unknown {
  return error instanceof Error ? Object.assign(error, fields) : error;
}
