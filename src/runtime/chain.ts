/**
 * Sessions as one: a graph that was cut in pieces, compiled side by side, so that several threads
 * pack its weights. A run runs them one after the other.
 */
import type { Binding, Device, Session, Tensor, ValueInfo } from "./device.ts";

type Tensors = Readonly<Record<string, Tensor>>;

export class SessionChain implements Session {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly #device: Device;
  readonly #sessions: readonly Session[];
  readonly #rowsOf: string;
  readonly #between: readonly ValueInfo[];
  /** Memory of what lies between sessions, as long as the largest binding wants; runs never overlap. */
  readonly #room = new Map<string, Tensor>();

  /**
   * Sessions in order, over a device's host memory. What one puts out and a later one reads is theirs
   * alone: [rows, width], with as many rows as the input `rowsOf` has.
   */
  constructor(device: Device, sessions: readonly Session[], rowsOf: string) {
    this.#device = device;
    this.#sessions = sessions;
    this.#rowsOf = rowsOf;
    const made = sessions.flatMap(({ outputs }) => outputs);
    const read = new Map(sessions.flatMap(({ inputs }) => inputs).map((info) => [info.name, info]));
    this.#between = made.filter(({ name }) => read.has(name));
    const own = new Set(this.#between.map(({ name }) => name));
    this.inputs = [...read.values()].filter(({ name }) => !own.has(name));
    this.outputs = made.filter(({ name }) => !own.has(name));
  }

  bind(inputs: Tensors, outputs: Tensors): Binding {
    checkNames("input", inputs, this.inputs);
    checkNames("output", outputs, this.outputs);
    const rows = inputs[this.#rowsOf]?.shape[0];
    if (rows === undefined) throw new TypeError(`Cannot bind: input "${this.#rowsOf}" is missing`);
    using made = new DisposableStack();
    const between = Object.fromEntries(
      this.#between.map((info) => [info.name, made.use(this.#view(info, rows))]),
    );
    const bindings = this.#sessions.map((session) =>
      made.use(session.bind(
        pick(session.inputs, { ...inputs, ...between }),
        pick(session.outputs, { ...outputs, ...between }),
      ))
    );
    return new ChainBinding(bindings, made.move());
  }

  cancel(): void {
    for (const session of this.#sessions) session.cancel();
  }

  endProfiling(): string | undefined {
    return this.#sessions.map((session) => session.endProfiling()).find((path) => path);
  }

  release(): void {
    for (const session of this.#sessions) session.release();
    for (const tensor of this.#room.values()) tensor.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #view({ name, dtype, shape: [, width = 0] }: ValueInfo, rows: number): Tensor {
    const known = this.#room.get(name);
    if (known === undefined || (known.shape[0] ?? 0) < rows) {
      known?.release();
      this.#room.set(name, this.#device.tensor(dtype, [rows, width]));
      return this.#view({ name, dtype, shape: [-1, width] }, rows);
    }
    return this.#device.view(known, 0, [rows, width]);
  }
}

class ChainBinding implements Binding {
  readonly #bindings: readonly Binding[];
  readonly #made: DisposableStack;

  constructor(bindings: readonly Binding[], made: DisposableStack) {
    this.#bindings = bindings;
    this.#made = made;
  }

  async run(): Promise<void> {
    for (const binding of this.#bindings) await binding.run();
  }

  runSync(): void {
    for (const binding of this.#bindings) binding.runSync();
  }

  release(): void {
    this.#made.dispose();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

function checkNames(kind: string, given: Tensors, infos: readonly ValueInfo[]): void {
  const names = infos.map(({ name }) => name);
  const unknown = Object.keys(given).find((name) => !names.includes(name));
  if (unknown === undefined) return;
  throw new TypeError(`Cannot bind ${kind} "${unknown}": the session's ${kind}s are ${names}`);
}

function pick(infos: readonly ValueInfo[], tensors: Tensors): Tensors {
  return Object.fromEntries(infos.flatMap(({ name }) => {
    const tensor = tensors[name];
    return tensor === undefined ? [] : [[name, tensor]];
  }));
}
