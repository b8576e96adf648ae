/** The events of a response that runs, for whoever comes to hear them: from any number on, at any time. */
import { obfuscated } from "../../generate/extras/obfuscation.ts";

/** A delta, whose size on the wire shows how long its token is. */
const DELTA = /^event: \S+\.delta\n/;

export interface EventReading {
  /** The number of the last event that is left out. */
  readonly after: number;
  readonly padded: boolean;
}

export class EventLog {
  /** By number. */
  readonly #events: string[] = [];
  #open = true;
  #more = Promise.withResolvers<void>();

  /** @param text events as they are sent, several one behind the other */
  add(text: string): void {
    this.#events.push(...text.split(/(?<=\n\n)/));
    this.#wake();
  }

  /** No more will come. */
  close(): void {
    this.#open = false;
    this.#wake();
  }

  async *read({ after, padded }: EventReading): AsyncGenerator<string> {
    for (let next = after + 1;; next++) {
      while (this.#open && next >= this.#events.length) await this.#more.promise;
      const event = this.#events[next];
      if (event === undefined) return;
      yield padded && DELTA.test(event) ? obfuscated(event) : event;
    }
  }

  #wake(): void {
    this.#more.resolve();
    this.#more = Promise.withResolvers<void>();
  }
}
