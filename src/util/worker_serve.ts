/**
 * The worker's side of a call: `serve` answers by name what a `WorkerThread` asks for. The trap: calls
 * are begun as they come, so handlers that await run side by side.
 */

/** What a handler knows of the call beside its argument. */
export interface ServedCall<Progress = never> {
  /** Aborted where whoever asked no longer waits; seen only by a handler that awaits something. */
  readonly signal: AbortSignal;
  /** Tells whoever asked how far it is. */
  progress(value: Progress): void;
}

/** Handlers by name. Arguments, results and progress travel by structured clone. */
export type Work = {
  readonly [name: string]: (argument: never, call: ServedCall<never>) => unknown;
};

/** A result of which buffers are handed over instead of copied. */
export class Moved<T> {
  constructor(readonly value: T, readonly transfer: readonly ArrayBuffer[]) {}
}

/** To the worker. */
export type Asked =
  | {
    readonly type: "call";
    readonly id: number;
    readonly name: string;
    readonly argument: unknown;
  }
  | { readonly type: "abort"; readonly id: number };

/** From the worker. */
export type Answered =
  | { readonly type: "progress"; readonly id: number; readonly value: unknown }
  | { readonly type: "done"; readonly id: number; readonly value: unknown }
  | {
    readonly type: "failed";
    readonly id: number;
    readonly error: unknown;
    /** What a clone of it loses: its name, and what its class added. */
    readonly fields: Readonly<Record<string, unknown>>;
  };

interface WorkerScope {
  onmessage: ((event: MessageEvent<Asked>) => void) | null;
  postMessage(answer: Answered, transfer: readonly ArrayBuffer[]): void;
}

/**
 * Answers this worker's calls from now on.
 *
 * @example
 * ```ts ignore
 * const work = { double: (value: number) => 2 * value };
 * export type DoubleWork = typeof work;
 * serve(work);
 * ```
 */
export function serve(work: Work): void {
  const scope = globalThis as unknown as WorkerScope;
  const running = new Map<number, AbortController>();
  scope.onmessage = async ({ data }) => {
    const { id } = data;
    if (data.type === "abort") return running.get(id)?.abort();
    const abort = new AbortController();
    running.set(id, abort);
    const progress = (value: unknown) => scope.postMessage({ type: "progress", id, value }, []);
    try {
      const handler = handlerOf(work, data.name);
      const result = await handler(data.argument, { signal: abort.signal, progress });
      const { value, transfer } = result instanceof Moved ? result : new Moved(result, []);
      scope.postMessage({ type: "done", id, value }, transfer);
    } catch (error) {
      scope.postMessage({ type: "failed", id, ...packed(error) }, []);
    } finally {
      running.delete(id);
    }
  };
}

type Handler = (argument: unknown, call: ServedCall<unknown>) => unknown;

/** The asking side's types hold an argument to its handler's. */
function handlerOf(work: Work, name: string): Handler {
  const handler = work[name];
  if (handler === undefined) throw new TypeError(`internal: this worker does not know '${name}'`);
  return handler as Handler;
}

/** Built-in classes that a clone keeps, as long as the error bears their name. */
const CLASSES = [EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError] as const;

function packed(error: unknown): Pick<Answered & { readonly type: "failed" }, "error" | "fields"> {
  const whole = !(error instanceof Error) || error instanceof DOMException;
  if (whole) return { error, fields: {} };
  const fields = { ...error, name: error.name };
  const own = CLASSES.find((one) => error instanceof one) ?? Error;
  Object.defineProperty(error, "name", { value: own.name });
  return { error, fields };
}
