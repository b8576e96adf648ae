// deno-lint-ignore-file no-console -- the library reports errors on the console; they are caught here
/**
 * The thread that grammars are compiled and matched on, so that neither holds up the event loop. It
 * owns the grammar library (xgrammar, WebAssembly) and its objects; it knows no sequence.
 */
import { createRequire } from "node:module";
import type * as XGrammar from "@mlc-ai/web-xgrammar";
import type { GrammarOrder, GrammarReply } from "./grammar_protocol.ts";

interface WorkerScope {
  onmessage: ((event: MessageEvent<GrammarOrder>) => void) | null;
  postMessage(reply: GrammarReply, transfer: Transferable[]): void;
  /** Where the library's UMD wrapper puts itself when it is imported as a module. */
  xgrammar?: typeof XGrammar;
  require?: NodeJS.Require;
  __filename?: string;
}

/** Room for indentation, none for the endless blanks of small models; more takes long to compile. */
const MOST_WHITESPACE = 8;

const scope = globalThis as unknown as WorkerScope;

class Matchers {
  readonly #compiler: XGrammar.GrammarCompiler;
  readonly #library: typeof XGrammar;
  readonly #cacheSize: number;
  readonly #compiled = new Map<string, XGrammar.CompiledGrammar>();
  readonly #matchers = new Map<number, { matcher: XGrammar.GrammarMatcher; count: number }>();

  constructor(library: typeof XGrammar, compiler: XGrammar.GrammarCompiler, cacheSize: number) {
    this.#library = library;
    this.#compiler = compiler;
    this.#cacheSize = cacheSize;
  }

  async create(id: number, schema: string, tokens: readonly number[]): Promise<void> {
    const compiled = await this.#compile(schema);
    const matcher = await this.#library.GrammarMatcher.createGrammarMatcher(compiled);
    this.#matchers.set(id, { matcher, count: 0 });
    for (const token of tokens) this.#advance(id, token);
    await this.#reply(id);
  }

  async accept(id: number, token: number): Promise<void> {
    if (!this.#matchers.has(id)) return;
    this.#advance(id, token);
    await this.#reply(id);
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

  async #reply(id: number): Promise<void> {
    const entry = this.#matchers.get(id);
    if (entry === undefined) return;
    const mask = new Int32Array(await entry.matcher.getNextTokenBitmask());
    scope.postMessage({ type: "mask", id, count: entry.count, mask }, [mask.buffer]);
  }

  async #compile(schema: string): Promise<XGrammar.CompiledGrammar> {
    const known = this.#compiled.get(schema);
    const compiled = known ?? await this.#compiler.compileJSONSchema(
      schema,
      true,
      undefined,
      undefined,
      true,
      MOST_WHITESPACE,
    );
    this.#compiled.delete(schema);
    this.#compiled.set(schema, compiled);
    for (const [key, oldest] of this.#compiled) {
      if (this.#compiled.size <= this.#cacheSize) break;
      this.#compiled.delete(key);
      oldest.dispose();
    }
    return compiled;
  }
}

/** The library aborts where others throw, and says why on the console only. */
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

async function begin(order: GrammarOrder & { readonly type: "init" }): Promise<Matchers> {
  const library = await loadLibrary();
  const info = await library.TokenizerInfo.createTokenizerInfo(
    [...order.vocabulary],
    "byte_level",
    false,
    order.vocabSize,
    [...order.stopTokens],
  );
  const compiler = await library.GrammarCompiler.createGrammarCompiler(info, false);
  return new Matchers(library, compiler, order.cacheSize);
}

function serve(): void {
  const said = listen();
  let matchers: Promise<Matchers> | undefined;
  let line: Promise<void> = Promise.resolve();
  scope.onmessage = ({ data }) => {
    if (data.type === "init") matchers = begin(data);
    else line = line.then(() => obey(data));
  };
  async function obey(order: Exclude<GrammarOrder, { readonly type: "init" }>): Promise<void> {
    try {
      const own = await matchers;
      said.length = 0;
      if (order.type === "create") await own?.create(order.id, order.schema, order.tokens);
      else if (order.type === "accept") await own?.accept(order.id, order.token);
      else own?.dispose(order.id);
    } catch (error) {
      scope.postMessage({ type: "failed", id: order.id, reason: reasonOf(error, said) }, []);
    }
  }
}

serve();
