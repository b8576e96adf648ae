/**
 * JSON mode and JSON schemas through xgrammar, on a few threads. The pool decides which thread
 * compiles which schema when, so that one tenant's schema does not hold up another's request. A
 * thread that breaks or hangs is replaced; its matchers go on elsewhere, as each knows the tokens
 * it took.
 */
import { Once } from "../util/memo.ts";
import type { Tokenizer } from "../checkpoint/checkpoint.ts";
import { FieldError, OverloadedError } from "../util/errors.ts";

import { type CompileJob, CompileQueue } from "./compile_queue.ts";
import { ThreadMatcher, type TokenMatcher } from "./matcher.ts";
import type { CallsGrammar } from "./compile_calls.ts";
import type { TagGrammar, WrittenBehind } from "./compile_tags.ts";
import type { TextGrammar } from "./compile_text.ts";
import { SchemaError } from "./schema/schema_error.ts";
import { type Breakdown, GrammarThread } from "./thread.ts";
import { spellAll } from "./vocabulary.ts";
import type { Origin, Refusal } from "./worker.ts";

/** A constraint on the output's text. */
export type Grammar =
  | { readonly type: "json" }
  | {
    readonly type: "json_schema";
    readonly schema: unknown;
    readonly strict: boolean;
    /** The request's field that holds the schema; default: `response_format`'s. */
    readonly field?: string;
  }
  | TextGrammar
  | TagGrammar
  | CallsGrammar
  | BehindGrammar;

/** A grammar that holds behind free text, which ends by a mark: a model's reasoning. */
export interface BehindGrammar extends Omit<WrittenBehind, "grammar"> {
  readonly type: "behind";
  readonly grammar: Grammar;
}

/** Makes matchers. */
export interface GrammarSource {
  /**
   * @throws {FieldError} naming what in the grammar cannot be held, and where it stands.
   * @throws {OverloadedError} where it takes too long, or too many of the tenant's wait.
   */
  matcher(grammar: Grammar, tenant: string): Promise<TokenMatcher>;
  close(): void;
}

export interface GrammarPoolOptions {
  readonly tokenizer: Tokenizer;
  /** The model's, which may be larger than the tokenizer's: the mask's length in bits. */
  readonly vocabSize: number;
  /** Tokens that are allowed where the grammar may end. */
  readonly stopTokens: readonly number[];
  /** Compiled grammars that each thread keeps at most; default 64, fewer where they are large. */
  readonly cacheSize?: number;
  /**
   * Most threads; default 3. They start as needed. Each takes 60 to 180 MB with 49,152 tokens,
   * depending on the grammars it keeps.
   */
  readonly threads?: number;
  /** Most tokens that matchers foresee where text is forced; default 0. */
  readonly foresight?: number;
  /** Longest time one grammar may take to compile; default 30,000. */
  readonly timeoutMilliseconds?: number;
}

/** The request's field that holds the schema. */
const SCHEMA_FIELD = "response_format.json_schema.schema";
const ANY_OBJECT = { type: "object" };
/** Characters around a schema in its grammar's source. */
const FRAME = '{"schema":}'.length;
/** Most characters of a schema. */
const LARGEST_SCHEMA = 65_536;
const REMEMBERED = 256;
/** How long a schema that took too long is not tried again. */
const PAUSE_SECONDS = 60;

export class GrammarPool implements GrammarSource {
  readonly #options: GrammarPoolOptions;
  readonly #threads = new Set<GrammarThread>();
  readonly #queue = new CompileQueue();
  readonly #jobs = new Map<GrammarThread, CompileJob>();
  readonly #homes = new Map<ThreadMatcher, GrammarThread | undefined>();
  readonly #refusals = new Map<string, Refusal>();
  /** When a schema that took too long may be tried again (`performance.now()`). */
  readonly #pauses = new Map<string, number>();
  readonly #spelling = new Once(() => spellAll(this.#options));
  #vocabulary: readonly string[] = [];
  #closed = false;
  #ids = 0;

  constructor(options: GrammarPoolOptions) {
    this.#options = options;
  }

  async matcher(grammar: Grammar, tenant: string): Promise<TokenMatcher> {
    const field = fieldOf(grammar);
    const schema = sourceText(grammar, field);
    this.#checkRemembered(schema, field);
    this.#vocabulary = await this.#spelling.get();
    if (this.#closed) throw new Error("Cannot make a matcher: its pool is closed");
    const matcher = new ThreadMatcher({
      id: this.#ids++,
      schema,
      field,
      tenant,
      foresight: this.#options.foresight ?? 0,
      onAccept: (own, tokens) => this.#homes.get(own)?.accept(own.id, tokens),
      onDispose: (own) => this.#dispose(own),
    });
    this.#house(matcher, (job) => this.#queue.add(job));
    await matcher.settled();
    if (matcher.error !== undefined) throw matcher.error;
    return matcher;
  }

  /** Ends the threads; matchers that still live fail. */
  close(): void {
    this.#closed = true;
    for (const thread of this.#threads) thread.close();
    for (const matcher of this.#homes.keys()) matcher.fail(new Error("The engine is closed"));
    this.#threads.clear();
    this.#homes.clear();
  }

  #dispose(matcher: ThreadMatcher): void {
    this.#homes.get(matcher)?.dispose(matcher.id);
    this.#homes.delete(matcher);
  }

  #checkRemembered(schema: string, field: string): void {
    const refusal = this.#refusals.get(schema);
    if (refusal !== undefined) throw new FieldError(refusal.field ?? field, refusal.reason);
    const seconds = ((this.#pauses.get(schema) ?? 0) - performance.now()) / 1000;
    if (seconds > 0) throw this.#tooSlow(seconds);
  }

  #tooSlow(seconds: number): OverloadedError {
    const { timeoutMilliseconds = 30_000 } = this.#options;
    return new OverloadedError(
      `The JSON schema takes longer than ${timeoutMilliseconds} ms to compile at present: ` +
        "ask for less (shorter maxLength, fewer optional properties), or try again later",
      seconds,
    );
  }

  // ---- where matchers live, and what is compiled for them ----

  #house(matcher: ThreadMatcher, wait: (job: CompileJob) => void): void {
    const { schema, tenant } = matcher;
    const home = this.#idle().find((thread) => thread.has(schema));
    if (home !== undefined) return this.#adopt(home, matcher);
    const job = this.#queue.find(tenant, schema);
    if (job === undefined) wait({ tenant, schema, matchers: new Set([matcher]) });
    else job.matchers.add(matcher);
    this.#homes.set(matcher, undefined);
    this.#dispatch();
  }

  #adopt(thread: GrammarThread, matcher: ThreadMatcher): void {
    this.#homes.set(matcher, thread);
    thread.adopt(matcher);
  }

  #dispatch(): void {
    while (this.#idle().length > 0 || this.#mayStart()) {
      const job = this.#queue.take();
      if (job === undefined) return;
      const thread = this.#threadFor(job);
      this.#jobs.set(thread, job);
      const wanted = [...job.matchers].some((matcher) => this.#homes.has(matcher));
      if (!wanted || thread.has(job.schema)) this.#compiled(thread);
      else thread.compile(job.schema, this.#options.timeoutMilliseconds ?? 30_000);
    }
  }

  /** An idle thread that has the schema; else one without matchers of other tenants, a new one if need be. */
  #threadFor({ schema, tenant }: CompileJob): GrammarThread {
    const idle = this.#idle();
    const known = idle.find((thread) => thread.has(schema));
    if (known !== undefined) return known;
    const others = (thread: GrammarThread) =>
      [...thread.matchers.values()].filter((matcher) => matcher.tenant !== tenant).length;
    idle.sort((one, other) => others(one) - others(other));
    const [best] = idle;
    if (best === undefined || (others(best) > 0 && this.#mayStart())) return this.#start();
    return best;
  }

  #idle(): GrammarThread[] {
    return [...this.#threads].filter(({ compiling }) => compiling === undefined);
  }

  #mayStart(): boolean {
    return !this.#closed && this.#threads.size < (this.#options.threads ?? 3);
  }

  #start(): GrammarThread {
    const { vocabSize, stopTokens, cacheSize = 64, foresight = 0 } = this.#options;
    const vocabulary = this.#vocabulary;
    const init = { vocabulary, vocabSize, stopTokens, foresight };
    const thread = new GrammarThread(init, cacheSize, {
      compiled: (own) => this.#compiled(own),
      refused: (own, schema, refusal) => this.#refuse(own, schema, refusal),
      broken: (own, breakdown) => this.#broken(own, breakdown),
      late: (own, schema) => this.#late(own, schema),
    });
    this.#threads.add(thread);
    return thread;
  }

  #compiled(thread: GrammarThread): void {
    this.#finish(thread, (matcher) => this.#adopt(thread, matcher));
  }

  /** Ends a thread's job, and calls `end` for each matcher that still waits for it. */
  #finish(thread: GrammarThread, end: (matcher: ThreadMatcher) => void): void {
    const job = this.#jobs.get(thread);
    this.#jobs.delete(thread);
    if (job !== undefined) this.#queue.end(job);
    for (const matcher of job?.matchers ?? []) if (this.#homes.has(matcher)) end(matcher);
    this.#dispatch();
  }

  #fail(matcher: ThreadMatcher, error: Error): void {
    this.#homes.delete(matcher);
    matcher.fail(error);
  }

  #refuse(thread: GrammarThread, schema: string, refusal: Refusal): void {
    remember(this.#refusals, schema, refusal);
    const { reason, field } = refusal;
    this.#finish(thread, (each) => this.#fail(each, new FieldError(field ?? each.field, reason)));
  }

  // ---- threads that break ----

  #late(thread: GrammarThread, schema: string): void {
    remember(this.#pauses, schema, performance.now() + 1000 * PAUSE_SECONDS);
    this.#replace(thread);
    this.#finish(thread, (matcher) => this.#fail(matcher, this.#tooSlow(PAUSE_SECONDS)));
  }

  /** The matcher that broke the thread fails; a schema it was compiling is compiled elsewhere. */
  #broken(thread: GrammarThread, { reason, during, matcher }: Breakdown): void {
    const { compiling } = thread;
    const error = new Error(`internal: grammar: ${reason}`);
    this.#replace(thread);
    if (matcher !== undefined) this.#fail(matcher, error);
    if (during === "compile" && compiling !== undefined) {
      const too = `is more than the grammar library takes: ${reason}`;
      const isText = /^\{(?:"behind":.*"origin":\{)?"(?:text|tags)"/.test(compiling);
      const whole = isText
        ? `Cannot use the grammar: it ${too}`
        : new SchemaError("#", too).message;
      return this.#refuse(thread, compiling, { reason: whole });
    }
    const begun = during !== undefined && during !== "init";
    this.#finish(thread, (each) => begun ? this.#move(each) : this.#fail(each, error));
  }

  /** Gives a thread up; its matchers go on elsewhere. */
  #replace(thread: GrammarThread): void {
    if (!this.#threads.delete(thread)) return;
    thread.close();
    for (const matcher of thread.matchers.values()) this.#move(matcher);
  }

  #move(matcher: ThreadMatcher): void {
    this.#house(matcher, (job) => this.#queue.restore(job));
  }
}

/** What the grammar is made of, as JSON text. */
function sourceText(grammar: Grammar, field: string): string {
  const text = JSON.stringify(sourceOf(grammar));
  const length = text.length - FRAME;
  if (length <= LARGEST_SCHEMA) return text;
  throw new FieldError(
    field,
    `Cannot use the ${isText(grammar) ? "grammar" : "JSON schema"}: it has ${length} characters, ` +
      `at most ${LARGEST_SCHEMA} work`,
  );
}

function isText(grammar: Grammar): boolean {
  if (grammar.type === "behind") return isText(grammar.grammar);
  return ["choice", "regex", "ebnf", "structural_tag"].includes(grammar.type);
}

/** The request's field that a refusal names. */
function fieldOf(grammar: Grammar): string {
  if (grammar.type === "behind") return fieldOf(grammar.grammar);
  if (grammar.type === "calls") return "tools";
  return "field" in grammar ? grammar.field ?? SCHEMA_FIELD : SCHEMA_FIELD;
}

function sourceOf(grammar: Grammar): Origin {
  switch (grammar.type) {
    case "json":
      return { schema: ANY_OBJECT };
    case "json_schema":
      return { schema: grammar.schema };
    case "calls":
      return { calls: grammar };
    case "structural_tag":
      return { tags: grammar };
    case "behind": {
      const { start, end, required } = grammar;
      return { behind: { start, end, required, origin: sourceOf(grammar.grammar) } };
    }
    default:
      // the same grammar whichever field it came in
      return { text: { ...grammar, field: "" } };
  }
}

/** Sets a value in a map that keeps the newest `REMEMBERED` values. */
function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= REMEMBERED) break;
    map.delete(oldest);
  }
}
