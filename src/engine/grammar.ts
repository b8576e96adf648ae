/**
 * Constraints on a sequence's text: which tokens a grammar allows next. A worker compiles and
 * matches (`grammar_worker.ts`), beside the model's run; this side owns the worker, begins it at the
 * first grammar, and begins another where it broke or hung: matchers then catch up by themselves,
 * as each knows the tokens it took. It knows no sequence and no logits.
 */
import { setImmediate } from "node:timers";
import type { Tokenizer } from "../checkpoint/checkpoint.ts";
import type { GrammarOrder, GrammarReply } from "./grammar_protocol.ts";
import { expressibleSchema, SCHEMA_FIELD } from "./json_schema.ts";
import { FieldError, type Grammar } from "./request.ts";

/** One sequence's place in a grammar. Masks are made beside the model's run, not before it. */
export interface TokenMatcher {
  /** Whether `mask` is that of the next token. */
  readonly ready: boolean;
  /** Allowed next tokens, 32 a word, valid while `ready`. */
  readonly mask: Int32Array;
  /** Set where the matcher is broken: its sequence cannot go on. */
  readonly error: Error | undefined;
  /** Resolves when `ready` holds or `error` is set. */
  settled(): Promise<void>;
  /** Moves on by a token that the mask allowed. */
  accept(token: number): void;
  dispose(): void;
}

/** Makes matchers. */
export interface GrammarSource {
  /** @throws {TypeError} naming what the grammar asks for and the library cannot express. */
  matcher(grammar: Grammar): Promise<TokenMatcher>;
  close(): void;
}

export interface GrammarPoolOptions {
  readonly tokenizer: Tokenizer;
  /** The model's, at least the tokenizer's: the mask's length in bits. */
  readonly vocabSize: number;
  /** Allowed where the grammar may end. */
  readonly stopTokens: readonly number[];
  /** Compiled grammars kept; default 64. */
  readonly cacheSize?: number;
  /**
   * Longest time one grammar may take to compile, the worker's start included; default
   * 30,000.
   */
  readonly timeoutMilliseconds?: number;
}

const ANY_OBJECT = '{"type":"object","additionalProperties":true}';
const REMEMBERED_REFUSALS = 256;

class WorkerMatcher implements TokenMatcher {
  mask: Int32Array = new Int32Array(0);
  error: Error | undefined;
  /** Tokens taken: a new worker is told them all. */
  readonly tokens: number[] = [];
  #ready = false;
  #waiters: (() => void)[] = [];

  constructor(
    readonly id: number,
    readonly schema: string,
    readonly orders: { accept(token: number): void; dispose(): void },
  ) {}

  get ready(): boolean {
    return this.#ready;
  }

  settled(): Promise<void> {
    if (this.#ready || this.error !== undefined) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  accept(token: number): void {
    this.tokens.push(token);
    this.#ready = false;
    this.orders.accept(token);
  }

  dispose(): void {
    this.orders.dispose();
  }

  take(mask: Int32Array, count: number): void {
    if (count !== this.tokens.length) return;
    this.mask = mask;
    this.#ready = true;
    this.#settle();
  }

  fail(error: Error): void {
    this.error = error;
    this.#settle();
  }

  #settle(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}

/** JSON mode and JSON schemas through xgrammar, on one worker. */
export class GrammarPool implements GrammarSource {
  readonly #options: GrammarPoolOptions;
  readonly #matchers = new Map<number, WorkerMatcher>();
  readonly #refusals = new Map<string, string>();
  /** Matchers that were ordered and have not had a mask yet, oldest first. */
  readonly #compiling = new Set<WorkerMatcher>();
  #spelling: Promise<readonly string[]> | undefined;
  #vocabulary: readonly string[] = [];
  #worker: Worker | undefined;
  #closed = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ids = 0;

  constructor(options: GrammarPoolOptions) {
    this.#options = options;
  }

  async matcher(grammar: Grammar): Promise<TokenMatcher> {
    const schema = grammar.type === "json" ? ANY_OBJECT : expressibleSchema(grammar.schema);
    const refusal = this.#refusals.get(schema);
    if (refusal !== undefined) throw new FieldError(SCHEMA_FIELD, refusal);
    this.#vocabulary = await (this.#spelling ??= spellAll(this.#options));
    if (this.#closed) throw new Error("Cannot make a matcher: its pool is closed");
    const id = this.#ids++;
    const matcher = new WorkerMatcher(id, schema, {
      accept: (token) => this.#order({ type: "accept", id, token }),
      dispose: () => this.#dispose(id),
    });
    this.#matchers.set(id, matcher);
    this.#create(matcher);
    await matcher.settled();
    if (matcher.error !== undefined) throw matcher.error;
    return matcher;
  }

  /** Ends the worker; matchers that are left fail. */
  close(): void {
    this.#closed = true;
    this.#stop();
    for (const matcher of this.#matchers.values()) matcher.fail(new Error("The engine is closed"));
    this.#matchers.clear();
    this.#compiling.clear();
  }

  #create(matcher: WorkerMatcher): void {
    const { id, schema, tokens } = matcher;
    this.#compiling.add(matcher);
    this.#order({ type: "create", id, schema, tokens });
    if (this.#timer === undefined) this.#watch();
  }

  #dispose(id: number): void {
    const gone = this.#matchers.get(id);
    if (gone === undefined) return;
    this.#matchers.delete(id);
    if (this.#compiling.delete(gone)) this.#watch();
    this.#worker?.postMessage({ type: "dispose", id } satisfies GrammarOrder);
  }

  #order(order: GrammarOrder): void {
    this.#worker ??= this.#start();
    this.#worker.postMessage(order);
  }

  #start(): Worker {
    const worker = new Worker(new URL("./grammar_worker.ts", import.meta.url), { type: "module" });
    const { vocabSize, stopTokens, cacheSize = 64 } = this.#options;
    worker.onmessage = ({ data }: MessageEvent<GrammarReply>) => this.#hear(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#restart(this.#oldest(), `the grammar worker failed: ${event.message}`);
    };
    const vocabulary = this.#vocabulary;
    const init: GrammarOrder = { type: "init", vocabulary, vocabSize, stopTokens, cacheSize };
    worker.postMessage(init);
    return worker;
  }

  #hear(reply: GrammarReply): void {
    const matcher = this.#matchers.get(reply.id);
    if (reply.type === "failed") return this.#restart(matcher, reply.reason);
    if (matcher === undefined) return;
    if (this.#compiling.delete(matcher)) this.#watch();
    matcher.take(reply.mask, reply.count);
  }

  /** The oldest order is the one being compiled: only it can be late. */
  #watch(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const oldest = this.#oldest();
    if (oldest === undefined) return;
    const { timeoutMilliseconds = 30_000 } = this.#options;
    this.#timer = setTimeout(
      () => this.#restart(oldest, `it takes longer than ${timeoutMilliseconds} ms to compile`),
      timeoutMilliseconds,
    );
  }

  #oldest(): WorkerMatcher | undefined {
    return this.#compiling.values().next().value;
  }

  /** Another worker takes over; the matcher that broke the last one fails, the others catch up. */
  #restart(culprit: WorkerMatcher | undefined, reason: string): void {
    this.#stop();
    if (culprit !== undefined) this.#refuse(culprit, reason);
    this.#compiling.clear();
    for (const matcher of this.#matchers.values()) this.#create(matcher);
  }

  #refuse(culprit: WorkerMatcher, reason: string): void {
    this.#matchers.delete(culprit.id);
    if (culprit.tokens.length > 0) return culprit.fail(new Error(`internal: grammar: ${reason}`));
    const message = `Cannot use the JSON schema: ${reason}`;
    this.#refusals.set(culprit.schema, message);
    for (const oldest of this.#refusals.keys()) {
      if (this.#refusals.size <= REMEMBERED_REFUSALS) break;
      this.#refusals.delete(oldest);
    }
    culprit.fail(new FieldError(SCHEMA_FIELD, message));
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#worker?.terminate();
    this.#worker = undefined;
  }
}

/** Tokens spelled between two turns of the event loop. */
const SPELLED_AT_ONCE = 2048;

/** The whole vocabulary, in slices that leave the event loop free in between. */
async function spellAll({ tokenizer, vocabSize }: GrammarPoolOptions): Promise<readonly string[]> {
  const known = Math.min(tokenizer.vocabSize, vocabSize);
  const vocabulary: string[] = [];
  for (let id = 0; id < known; id++) {
    vocabulary.push(spell(tokenizer, id));
    if (id % SPELLED_AT_ONCE === 0) await new Promise<void>((go) => void setImmediate(go));
  }
  return vocabulary;
}

/** A token's bytes in GPT-2's printable spelling; empty for a special token, which no text may have. */
function spell(tokenizer: Tokenizer, id: number): string {
  if (tokenizer.isSpecial(id)) return "";
  let text = "";
  for (const byte of tokenizer.tokenBytes(id)) text += BYTE_SPELLING[byte];
  return text;
}

/** Bytes that are no printable Latin-1 characters are shifted past it (GPT-2's bytes_to_unicode). */
const BYTE_SPELLING: readonly string[] = (() => {
  let shifted = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
    return String.fromCharCode(printable ? byte : shifted++);
  });
})();
