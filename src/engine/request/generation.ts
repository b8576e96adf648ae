/**
 * The stream from the engine to one caller: the deltas of a request's samples, in order, then its
 * end or an error. Deltas that nobody has asked for yet are kept.
 */
import type { Generation, GenerationDelta, Usage } from "./request.ts";

interface Reader {
  readonly resolve: (result: IteratorResult<GenerationDelta, undefined>) => void;
  readonly reject: (error: unknown) => void;
}

const DONE: IteratorReturnResult<undefined> = { done: true, value: undefined };

export interface StreamOptions {
  readonly promptTokens: number;
  /** The caller's; it is no longer listened to once the stream has ended. */
  readonly signal?: AbortSignal | undefined;
  /** Called when the signal fires or the reader leaves before the end. */
  readonly onLeave: () => void;
}

/** Iterable once. Leaving the iteration early cancels the request. */
export class GenerationStream implements Generation, AsyncIterator<GenerationDelta, undefined> {
  readonly #options: StreamOptions;
  readonly #deltas: GenerationDelta[] = [];
  #reader: Reader | undefined;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #iterated = false;
  #completionTokens = 0;
  #cachedTokens = 0;

  constructor(options: StreamOptions) {
    this.#options = options;
    options.signal?.addEventListener("abort", options.onLeave, { once: true });
  }

  get usage(): Usage {
    return {
      promptTokens: this.#options.promptTokens,
      completionTokens: this.#completionTokens,
      cachedTokens: this.#cachedTokens,
    };
  }

  /** Hands one delta to the reader, or keeps it until asked for. */
  push(delta: GenerationDelta): void {
    if (this.#ended) return;
    this.#completionTokens += delta.tokens.length;
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) this.#deltas.push(delta);
    else reader.resolve({ done: false, value: delta });
  }

  /** Prompt tokens that a sample found in the prefix cache; of several samples the most counts. */
  cached(tokens: number): void {
    this.#cachedTokens = Math.max(this.#cachedTokens, tokens);
  }

  /** No more deltas come. */
  end(): void {
    if (this.#ended) return;
    this.#close();
    this.#reader?.resolve(DONE);
    this.#reader = undefined;
  }

  /** No more deltas come, and the reader gets the error after those that did. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#close();
    if (this.#reader === undefined) this.#failure = { error };
    else this.#reader.reject(error);
    this.#reader = undefined;
  }

  [Symbol.asyncIterator](): this {
    if (this.#iterated) {
      throw new TypeError("Cannot iterate a generation twice: its deltas were handed out");
    }
    this.#iterated = true;
    return this;
  }

  next(): Promise<IteratorResult<GenerationDelta, undefined>> {
    const delta = this.#deltas.shift();
    if (delta !== undefined) return Promise.resolve({ done: false, value: delta });
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) return Promise.reject(failure.error);
    if (this.#ended) return Promise.resolve(DONE);
    if (this.#reader !== undefined) {
      return Promise.reject(new TypeError("Cannot read a generation twice at once"));
    }
    return new Promise((resolve, reject) => this.#reader = { resolve, reject });
  }

  /** The reader leaves: nothing more is wanted. */
  return(): Promise<IteratorReturnResult<undefined>> {
    this.#deltas.length = 0;
    if (!this.#ended) this.#options.onLeave();
    this.end();
    return Promise.resolve(DONE);
  }

  #close(): void {
    this.#ended = true;
    this.#options.signal?.removeEventListener("abort", this.#options.onLeave);
  }
}
