/**
 * One grammar thread as its pool sees it: the schemas it has compiled, the one it compiles now, and
 * the matchers on it. A thread does one thing after the other: while it compiles, its matchers
 * wait.
 */
import { WorkerThread } from "../util/worker_thread.ts";
import type { ThreadMatcher } from "./matcher.ts";
import type { GrammarWork, Mask, Refusal, ThreadInit } from "./worker.ts";

/** Why a thread is to be given up. */
export interface Breakdown {
  readonly reason: string;
  /** What it was ordered to do; undefined where it fell over by itself. */
  readonly during: keyof GrammarWork | undefined;
  /** The matcher that broke it. */
  readonly matcher: ThreadMatcher | undefined;
}

export interface ThreadEvents {
  compiled(thread: GrammarThread, schema: string): void;
  refused(thread: GrammarThread, schema: string, refusal: Refusal): void;
  broken(thread: GrammarThread, breakdown: Breakdown): void;
  late(thread: GrammarThread, schema: string): void;
}

interface Compiled {
  /** Its number on the thread. */
  readonly grammar: number;
  readonly weight: number;
}

/** Weight of the compiled grammars that a thread keeps: about 120 MB with 49,152 tokens. */
const MOST_WEIGHT = 512;

export class GrammarThread {
  readonly matchers = new Map<number, ThreadMatcher>();
  /** What is being compiled. */
  compiling: string | undefined;
  readonly #events: ThreadEvents;
  readonly #thread: WorkerThread<GrammarWork>;
  readonly #cacheSize: number;
  /** The compiled schemas, the one used longest ago first. */
  readonly #compiled = new Map<string, Compiled>();
  #weight = 0;
  #ready = false;
  /** Begins the time that the grammar at hand may take: not before the thread is ready. */
  #watch = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #grammars = 0;
  #closed = false;

  constructor(init: ThreadInit, cacheSize: number, events: ThreadEvents) {
    this.#events = events;
    this.#cacheSize = cacheSize;
    this.#thread = new WorkerThread({
      module: new URL("./worker.ts", import.meta.url),
      failure: "Cannot match a grammar",
      onFall: ({ message }) => this.#break(message, undefined),
    });
    this.#take("init", this.#thread.call("init", init), () => {
      this.#ready = true;
      this.#watch();
    });
  }

  has(schema: string): boolean {
    return this.#compiled.has(schema);
  }

  /** Begins to compile; the events tell what came of it. */
  compile(schema: string, timeoutMilliseconds: number): void {
    this.compiling = schema;
    this.#watch = () => {
      this.#timer = setTimeout(() => this.#events.late(this, schema), timeoutMilliseconds);
    };
    if (this.#ready) this.#watch();
    const compiled = this.#thread.call("compile", { grammar: this.#grammars, schema });
    this.#take("compile", compiled, (result) => {
      clearTimeout(this.#timer);
      this.compiling = undefined;
      if ("refused" in result) return this.#events.refused(this, schema, result.refused);
      this.#keep(schema, { grammar: this.#grammars++, weight: result.weight });
      this.#events.compiled(this, schema);
    });
  }

  /** Takes a matcher in, whose schema is compiled. */
  adopt(matcher: ThreadMatcher): void {
    const compiled = this.#compiled.get(matcher.schema);
    if (compiled === undefined) throw new RangeError("internal: a matcher of an unknown grammar");
    this.#compiled.delete(matcher.schema);
    this.#compiled.set(matcher.schema, compiled);
    this.matchers.set(matcher.id, matcher);
    const { id } = matcher;
    const tokens = matcher.tell();
    const created = this.#thread.call("create", { id, grammar: compiled.grammar, tokens });
    this.#take("create", created, (mask) => this.#hand(id, mask), id);
  }

  accept(id: number, tokens: readonly number[]): void {
    const accepted = this.#thread.call("accept", { id, tokens });
    this.#take("accept", accepted, (mask) => this.#hand(id, mask), id);
  }

  dispose(id: number): void {
    if (!this.matchers.delete(id)) return;
    this.#take("dispose", this.#thread.call("dispose", id), () => {}, id);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#thread[Symbol.dispose]();
  }

  /** Hears of an order, unless the thread was given up meanwhile. */
  #take<T>(
    during: keyof GrammarWork,
    ordered: Promise<T>,
    done: (result: T) => void,
    id?: number,
  ): void {
    ordered.then(
      (result) => {
        if (!this.#closed) done(result);
      },
      (error: Error) => {
        if (!this.#closed) this.#break(error.message, during, id);
      },
    );
  }

  #break(reason: string, during: keyof GrammarWork | undefined, id?: number): void {
    const matcher = id === undefined ? undefined : this.matchers.get(id);
    if (matcher !== undefined) this.matchers.delete(matcher.id);
    this.#events.broken(this, { reason, during, matcher });
  }

  #hand(id: number, mask: Mask | undefined): void {
    if (mask !== undefined) this.matchers.get(id)?.take(mask.mask, mask.count, mask.foreseen);
  }

  #keep(schema: string, compiled: Compiled): void {
    this.#compiled.set(schema, compiled);
    this.#weight += compiled.weight;
    for (const [oldest, { grammar, weight }] of this.#compiled) {
      const fits = this.#weight <= MOST_WEIGHT && this.#compiled.size <= this.#cacheSize;
      if (fits || this.#compiled.size === 1) break;
      this.#compiled.delete(oldest);
      this.#weight -= weight;
      this.#take("forget", this.#thread.call("forget", grammar), () => {});
    }
  }
}
