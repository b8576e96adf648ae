/**
 * Whether the server takes work, and how much of it is under way. It owns the count of requests
 * from their first byte to the end of their stream; it knows no signals and no engine.
 */
export class Lifecycle {
  #draining = false;
  #active = 0;
  #waiters: (() => void)[] = [];

  /** Whether new generations are refused. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Requests whose answers have not ended. */
  get active(): number {
    return this.#active;
  }

  /** Counts a request in; the returned function counts it out, once. */
  begin(): () => void {
    this.#active++;
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      this.#active--;
      if (this.#active === 0) this.#release();
    };
  }

  /** Refuses new generations from now on; resolves when no request is left. */
  drain(): Promise<void> {
    this.#draining = true;
    if (this.#active === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #release(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}
