// deno-lint-ignore-file no-console -- the library reports errors on the console; they are caught here
/**
 * The thread that grammars are compiled and matched on, so that neither holds up the event loop. It
 * owns the grammar library (xgrammar, WebAssembly) and its objects. The trap: the library aborts
 * where others throw, and is broken from then on.
 */
import { createRequire } from "node:module";
import type * as XGrammar from "@mlc-ai/web-xgrammar";
import { compileSchema } from "./compile_schema.ts";
import type { GrammarOrder, GrammarReply } from "./protocol.ts";
import { SchemaError } from "./schema/schema_error.ts";
import type { WrittenGrammar } from "./write_grammar.ts";

interface WorkerScope {
  onmessage: ((event: MessageEvent<GrammarOrder>) => void) | null;
  postMessage(reply: GrammarReply, transfer: Transferable[]): void;
  /** Where the library's UMD wrapper puts itself when it is imported as a module. */
  xgrammar?: typeof XGrammar;
  require?: NodeJS.Require;
  __filename?: string;
}

type Order<T extends GrammarOrder["type"]> = GrammarOrder & { readonly type: T };

const scope = globalThis as unknown as WorkerScope;

class Matchers {
  readonly #compiler: XGrammar.GrammarCompiler;
  readonly #library: typeof XGrammar;
  readonly #compiled = new Map<number, XGrammar.CompiledGrammar>();
  readonly #matchers = new Map<number, { matcher: XGrammar.GrammarMatcher; count: number }>();

  constructor(library: typeof XGrammar, compiler: XGrammar.GrammarCompiler) {
    this.#library = library;
    this.#compiler = compiler;
  }

  async compile({ grammar, schema }: Order<"compile">): Promise<void> {
    const written = writtenGrammar(schema);
    if (written instanceof SchemaError) {
      scope.postMessage({ type: "refused", grammar, reason: written.message }, []);
      return;
    }
    this.#compiled.set(grammar, await this.#compiler.compileGrammar(written.text));
    scope.postMessage({ type: "compiled", grammar, weight: written.weight }, []);
  }

  /** Matchers of the grammar go on. */
  forget(grammar: number): void {
    this.#compiled.get(grammar)?.dispose();
    this.#compiled.delete(grammar);
  }

  async create({ id, grammar, tokens }: Order<"create">): Promise<void> {
    const compiled = this.#compiled.get(grammar);
    if (compiled === undefined) throw new Error(`internal: grammar ${grammar} is not kept`);
    const matcher = await this.#library.GrammarMatcher.createGrammarMatcher(compiled);
    this.#matchers.set(id, { matcher, count: 0 });
    for (const token of tokens) this.#advance(id, token);
    await this.#reply(id);
  }

  async accept({ id, token }: Order<"accept">): Promise<void> {
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
}

function writtenGrammar(schema: string): WrittenGrammar | SchemaError {
  try {
    return compileSchema(JSON.parse(schema));
  } catch (error) {
    if (error instanceof SchemaError) return error;
    throw error;
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

async function begin(order: Order<"init">): Promise<Matchers> {
  const library = await loadLibrary();
  const info = await library.TokenizerInfo.createTokenizerInfo(
    [...order.vocabulary],
    "byte_level",
    false,
    order.vocabSize,
    [...order.stopTokens],
  );
  return new Matchers(library, await library.GrammarCompiler.createGrammarCompiler(info, false));
}

async function obey(matchers: Matchers, order: GrammarOrder): Promise<void> {
  switch (order.type) {
    case "compile":
      return await matchers.compile(order);
    case "forget":
      return matchers.forget(order.grammar);
    case "create":
      return await matchers.create(order);
    case "accept":
      return await matchers.accept(order);
    case "dispose":
      return matchers.dispose(order.id);
  }
}

function serve(): void {
  const said = listen();
  let matchers: Promise<Matchers> | undefined;
  let line: Promise<void> = Promise.resolve();
  scope.onmessage = ({ data }) => {
    line = line.then(async () => {
      try {
        said.length = 0;
        if (data.type === "init") matchers = begin(data);
        const own = await matchers;
        if (data.type === "init") scope.postMessage({ type: "ready" }, []);
        if (own !== undefined) await obey(own, data);
      } catch (error) {
        const id = "id" in data ? data.id : undefined;
        const reason = reasonOf(error, said);
        scope.postMessage({ type: "failed", during: data.type, id, reason }, []);
      }
    });
  };
}

serve();
