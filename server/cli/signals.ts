/**
 * SIGINT and SIGTERM while something runs that wants to end well: the first asks, the second ends
 * the process.
 */

const CODES = { SIGINT: 130, SIGTERM: 143 } as const;
type Ending = keyof typeof CODES;

/** Listens from its making to its disposal. */
export class EndSignals implements Disposable {
  readonly #controller = new AbortController();
  readonly #listeners: ReadonlyMap<Ending, () => void>;
  #received: Ending | undefined;

  /** @param onFirst hears of the first signal */
  constructor(onFirst: (signal: Ending) => void) {
    const names = Object.keys(CODES) as Ending[];
    this.#listeners = new Map(names.map((name) => [name, () => this.#hear(name, onFirst)]));
    for (const [name, listener] of this.#listeners) Deno.addSignalListener(name, listener);
  }

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** 130 or 143 after a signal; undefined before. */
  get exitCode(): number | undefined {
    return this.#received === undefined ? undefined : CODES[this.#received];
  }

  [Symbol.dispose](): void {
    for (const [name, listener] of this.#listeners) Deno.removeSignalListener(name, listener);
  }

  #hear(name: Ending, onFirst: (signal: Ending) => void): void {
    if (this.#received !== undefined) Deno.exit(CODES[name]);
    this.#received = name;
    onFirst(name);
    this.#controller.abort(new DOMException(`${name} came`, "AbortError"));
  }
}
