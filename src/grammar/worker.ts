// deno-lint-ignore-file no-console -- the library reports errors on the console; they are caught here
/**
 * The thread that grammars are compiled and matched on, so that neither holds up the event loop.
 * The grammar library (xgrammar, WebAssembly) lives here alone. Trap: where another library would
 * throw, it aborts and is broken from then on.
 */
import { createRequire } from "node:module";
import type * as XGrammar from "@mlc-ai/web-xgrammar";
import { Moved, serve } from "../util/worker_serve.ts";
import { FieldError } from "../util/errors.ts";
import { type CallsGrammar, compileCalls } from "./compile_calls.ts";
import {
  behind,
  compileTags,
  type TagGrammar,
  type WrittenBehind,
  type WrittenTags,
} from "./compile_tags.ts";
import { compileText, type TextGrammar } from "./compile_text.ts";
import { compileSchema } from "./compile_schema.ts";
import { Foresight } from "./foresight.ts";
import type { Foreseen } from "./matcher.ts";
import { SchemaError } from "./schema/schema_error.ts";
import type { WrittenGrammar } from "./write_grammar.ts";

interface LibraryScope {
  /** Where the library's UMD wrapper puts itself when it is imported as a module. */
  xgrammar?: typeof XGrammar;
  require?: NodeJS.Require;
  __filename?: string;
}

const scope = globalThis as unknown as LibraryScope;

export interface ThreadInit {
  /** Byte-level (GPT-2) spelling of each token; empty for one that no text may contain. */
  readonly vocabulary: readonly string[];
  readonly vocabSize: number;
  readonly stopTokens: readonly number[];
  /** Most tokens that a matcher foresees. */
  readonly foresight: number;
}

/** Allowed tokens after `count` accepted ones, and what is foreseen from there. */
export interface Mask {
  readonly mask: Int32Array<ArrayBuffer>;
  readonly count: number;
  readonly foreseen: readonly Foreseen[];
}

/**
 * A grammar's weight, as `WrittenGrammar` has it, or why the schema has none: the thread goes on.
 */
type CompileResult = { readonly weight: number } | { readonly refused: Refusal };

/** Why there is no grammar, and the request's field that is to blame where it is known. */
export interface Refusal {
  readonly reason: string;
  readonly field?: string;
}

/** What a grammar is made of; as JSON text it is the grammar's name. */
export type Origin =
  | { readonly schema: unknown }
  | { readonly calls: CallsGrammar }
  | { readonly text: TextGrammar }
  | { readonly tags: TagGrammar }
  | {
    readonly behind: Omit<WrittenBehind, "grammar"> & { readonly origin: Origin };
  };

/** An `Origin` (JSON text) to compile, and the number to keep it under. */
interface ToCompile {
  readonly grammar: number;
  readonly schema: string;
}

/** A matcher to begin, of a grammar that is kept, and what to take it past. */
interface ToCreate {
  readonly id: number;
  readonly grammar: number;
  readonly tokens: readonly number[];
}

class Matchers {
  readonly #compiler: XGrammar.GrammarCompiler;
  readonly #library: typeof XGrammar;
  readonly #foresight: Foresight;
  readonly #compiled = new Map<number, XGrammar.CompiledGrammar>();
  readonly #matchers = new Map<number, { matcher: XGrammar.GrammarMatcher; count: number }>();

  constructor(library: typeof XGrammar, compiler: XGrammar.GrammarCompiler, init: ThreadInit) {
    this.#library = library;
    this.#compiler = compiler;
    this.#foresight = new Foresight(init);
  }

  async compile({ grammar, schema }: ToCompile): Promise<CompileResult> {
    const written = writtenGrammar(schema);
    if ("reason" in written) return { refused: written };
    const compiled = "tags" in written
      ? await this.#compiler.compileStructuralTag(written.tags)
      : await this.#compiler.compileGrammar(written.text);
    this.#compiled.set(grammar, compiled);
    return { weight: written.weight };
  }

  /** Matchers of the grammar go on. */
  forget(grammar: number): void {
    this.#compiled.get(grammar)?.dispose();
    this.#compiled.delete(grammar);
  }

  async create({ id, grammar, tokens }: ToCreate): Promise<Moved<Mask> | undefined> {
    const compiled = this.#compiled.get(grammar);
    if (compiled === undefined) throw new Error(`internal: grammar ${grammar} is not kept`);
    const matcher = await this.#library.GrammarMatcher.createGrammarMatcher(compiled);
    this.#matchers.set(id, { matcher, count: 0 });
    return await this.accept(id, tokens);
  }

  /** Undefined for a matcher that is no longer there. */
  async accept(id: number, tokens: readonly number[]): Promise<Moved<Mask> | undefined> {
    for (const token of tokens) this.#advance(id, token);
    return await this.#mask(id);
  }

  dispose(id: number): void {
    this.#matchers.get(id)?.matcher.dispose();
    this.#matchers.delete(id);
  }

  #advance(id: number, token: number): void {
    const entry = this.#matchers.get(id);
    if (entry === undefined) return;
    if (!entry.matcher.acceptToken(token)) throw new Error(`token ${token} breaks the grammar`);
    entry.count++;
  }

  async #mask(id: number): Promise<Moved<Mask> | undefined> {
    const entry = this.#matchers.get(id);
    if (entry === undefined) return undefined;
    const { matcher, count } = entry;
    const mask = new Int32Array(await matcher.getNextTokenBitmask());
    const foreseen = await this.#foresight.of(matcher, mask);
    const buffers = [mask, ...foreseen.map((each) => each.mask)].map(({ buffer }) => buffer);
    return new Moved({ mask, count, foreseen }, buffers);
  }
}

function writtenGrammar(text: string): WrittenGrammar | WrittenTags | Refusal {
  return written(JSON.parse(text) as Origin);
}

function written(source: Origin): WrittenGrammar | WrittenTags | Refusal {
  if ("behind" in source) {
    const { origin, ...marks } = source.behind;
    const grammar = written(origin);
    return "reason" in grammar ? grammar : behind({ ...marks, grammar });
  }
  if ("text" in source) return writtenText(source.text);
  try {
    if ("tags" in source) return compileTags(source.tags);
    return "calls" in source ? compileCalls(source.calls) : compileSchema(source.schema);
  } catch (error) {
    if (error instanceof SchemaError) return { reason: error.message };
    if (error instanceof FieldError) return { reason: error.message, field: error.field };
    throw error;
  }
}

const TEXT_NAMES = { choice: "choices", regex: "pattern", ebnf: "grammar" } as const;

function writtenText(grammar: TextGrammar): WrittenGrammar | Refusal {
  try {
    return compileText(grammar);
  } catch (error) {
    const reason = error instanceof SchemaError ? error.reason : (error as Error).message;
    return { reason: `Cannot use the ${TEXT_NAMES[grammar.type]}: ${reason}` };
  }
}

/** The library says on the console alone why it aborts. */
function listen(): string[] {
  const said: string[] = [];
  console.error = console.warn = console.log = (...words: unknown[]) => {
    said.push(words.join(" "));
  };
  return said;
}

function reasonOf(error: unknown, said: readonly string[]): string {
  const fatal = said.findLast((line) => line.startsWith("[FATAL]"));
  const text = fatal?.replace(/^\[FATAL\] \S+: /, "").replace(/^Check failed: .* is false: /, "");
  return text ?? (error instanceof Error ? error.message : String(error));
}

/** Under Deno the library loads as a module but looks for CommonJS's names. */
async function loadLibrary(): Promise<typeof XGrammar> {
  scope.require = createRequire(import.meta.url);
  scope.__filename = import.meta.filename ?? import.meta.url;
  const imported: typeof XGrammar = await import("@mlc-ai/web-xgrammar");
  return scope.xgrammar ?? imported;
}

async function begin(init: ThreadInit): Promise<Matchers> {
  const library = await loadLibrary();
  const info = await library.TokenizerInfo.createTokenizerInfo(
    [...init.vocabulary],
    "byte_level",
    false,
    init.vocabSize,
    [...init.stopTokens],
  );
  const compiler = await library.GrammarCompiler.createGrammarCompiler(info, false);
  return new Matchers(library, compiler, init);
}

/** Every handler waits for those before it; where one throws, the library is not to be trusted. */
function grammarWork() {
  const said = listen();
  const begun = Promise.withResolvers<Matchers>();
  let line: Promise<unknown> = Promise.resolve();
  const inLine = <T>(work: () => Promise<T>): Promise<T> => {
    const done = line.then(async () => {
      said.length = 0;
      try {
        return await work();
      } catch (error) {
        throw new Error(reasonOf(error, said));
      }
    });
    line = done.catch(() => {});
    return done;
  };
  const withMatchers = <T>(work: (matchers: Matchers) => T) =>
    inLine(async () => await work(await begun.promise));
  return {
    init: (init: ThreadInit) => inLine(async () => begun.resolve(await begin(init))),
    compile: (asked: ToCompile) => withMatchers((matchers) => matchers.compile(asked)),
    forget: (grammar: number) => withMatchers((matchers) => matchers.forget(grammar)),
    create: (asked: ToCreate) => withMatchers((matchers) => matchers.create(asked)),
    accept: ({ id, tokens }: { readonly id: number; readonly tokens: readonly number[] }) =>
      withMatchers((matchers) => matchers.accept(id, tokens)),
    dispose: (id: number) => withMatchers((matchers) => matchers.dispose(id)),
  };
}

export type GrammarWork = ReturnType<typeof grammarWork>;

serve(grammarWork());
