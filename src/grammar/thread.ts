/**
 * One grammar thread as its pool sees it: what it has compiled, what it compiles now, and the
 * matchers that live on it. A thread does one thing after the other, so while it compiles, its
 * matchers wait.
 */
import type { ThreadMatcher } from "./matcher.ts";
import type { GrammarOrder, GrammarReply } from "./protocol.ts";

export type ThreadInit = Omit<GrammarOrder & { readonly type: "init" }, "type">;

/** Why a thread is to be given up. */
export interface Breakdown {
  readonly reason: string;
  /** What it was ordered to do; undefined where it fell over by itself. */
  readonly during: GrammarOrder["type"] | undefined;
  /** The matcher that broke it. */
  readonly matcher: ThreadMatcher | undefined;
}

export interface ThreadEvents {
  compiled(thread: GrammarThread, schema: string): void;
  refused(thread: GrammarThread, schema: string, reason: string): void;
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
  readonly #worker: Worker;
  readonly #cacheSize: number;
  /** The compiled schemas, the one used longest ago first. */
  readonly #compiled = new Map<string, Compiled>();
  #weight = 0;
  #ready = false;
  /** Begins the time that the grammar at hand may take: not before the thread is ready. */
  #watch = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #grammars = 0;

  constructor(init: ThreadInit, cacheSize: number, events: ThreadEvents) {
    this.#events = events;
    this.#cacheSize = cacheSize;
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }: MessageEvent<GrammarReply>) => this.#hear(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const reason = `its thread failed: ${event.message}`;
      events.broken(this, { reason, during: undefined, matcher: undefined });
    };
    this.#order({ type: "init", ...init });
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
    this.#order({ type: "compile", grammar: this.#grammars, schema });
  }

  /** Takes a matcher in, whose schema is compiled. */
  adopt(matcher: ThreadMatcher): void {
    const compiled = this.#compiled.get(matcher.schema);
    if (compiled === undefined) throw new RangeError("internal: a matcher of an unknown grammar");
    this.#compiled.delete(matcher.schema);
    this.#compiled.set(matcher.schema, compiled);
    this.matchers.set(matcher.id, matcher);
    const { id, tokens } = matcher;
    this.#order({ type: "create", id, grammar: compiled.grammar, tokens });
  }

  accept(id: number, token: number): void {
    this.#order({ type: "accept", id, token });
  }

  dispose(id: number): void {
    if (this.matchers.delete(id)) this.#order({ type: "dispose", id });
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#worker.terminate();
  }

  #order(order: GrammarOrder): void {
    this.#worker.postMessage(order);
  }

  #hear(reply: GrammarReply): void {
    switch (reply.type) {
      case "ready":
        this.#ready = true;
        return this.#watch();
      case "mask":
        return this.matchers.get(reply.id)?.take(reply.mask, reply.count);
      case "failed": {
        const matcher = reply.id === undefined ? undefined : this.matchers.get(reply.id);
        if (matcher !== undefined) this.matchers.delete(matcher.id);
        return this.#events.broken(this, { ...reply, matcher });
      }
      default:
        return this.#compiledOr(reply);
    }
  }

  #compiledOr(reply: GrammarReply & { readonly type: "compiled" | "refused" }): void {
    const schema = this.compiling;
    clearTimeout(this.#timer);
    this.compiling = undefined;
    if (schema === undefined) return;
    if (reply.type === "refused") return this.#events.refused(this, schema, reply.reason);
    this.#keep(schema, { grammar: this.#grammars++, weight: reply.weight });
    this.#events.compiled(this, schema);
  }

  #keep(schema: string, compiled: Compiled): void {
    this.#compiled.set(schema, compiled);
    this.#weight += compiled.weight;
    for (const [oldest, { grammar, weight }] of this.#compiled) {
      const fits = this.#weight <= MOST_WEIGHT && this.#compiled.size <= this.#cacheSize;
      if (fits || this.#compiled.size === 1) break;
      this.#compiled.delete(oldest);
      this.#weight -= weight;
      this.#order({ type: "forget", grammar });
    }
  }
}
