/** A worker whose handlers do what a call can meet. */
import { Moved, serve, type ServedCall } from "../../src/util/worker_serve.ts";

class CodedError extends RangeError {
  override readonly name = "CodedError";
  constructor(message: string, readonly code: string) {
    super(message);
  }
}

/** @param seen aborts that a handler saw */
const work = (seen: number) => ({
  double: (value: number) => 2 * value,
  refuse(code: string): never {
    throw new CodedError(`refused: ${code}`, code);
  },
  uncloneable: () => () => {},
  fill(bytes: Uint8Array<ArrayBuffer>) {
    return new Moved(bytes.fill(7), [bytes.buffer]);
  },
  count(to: number, { progress }: ServedCall<number>) {
    for (let at = 1; at <= to; at++) progress(at);
    return "counted";
  },
  /** Resolves when whoever asked no longer waits. */
  hold(_: string, { signal, progress }: ServedCall<string>) {
    progress("held");
    return new Promise((resolve) => signal.addEventListener("abort", () => resolve(seen++)));
  },
  seen: () => seen,
  fall(_: undefined) {
    setTimeout(() => {
      throw new Error("fell");
    });
    return new Promise<never>(() => {});
  },
});

export type CallsWork = ReturnType<typeof work>;

serve(work(0));
