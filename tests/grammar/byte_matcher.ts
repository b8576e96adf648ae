/**
 * The real grammar library over a tokenizer of single bytes: whether a schema's grammar accepts a
 * text, byte by byte, to its end.
 */
import { createRequire } from "node:module";
import type * as XGrammar from "@mlc-ai/web-xgrammar";
import { type CallsGrammar, compileCalls } from "../../src/grammar/compile_calls.ts";
import { compileSchema } from "../../src/grammar/compile_schema.ts";
import { compileText, type TextGrammar } from "../../src/grammar/compile_text.ts";
import { spellAll } from "../../src/grammar/vocabulary.ts";
import { EOS, FakeTokenizer } from "../fakes/tokenizer.ts";

/** A schema's grammar, compiled. */
export interface Accepter {
  accepts(text: string): Promise<boolean>;
  /**
   * Writes a text by the masks alone, choosing among the bytes that they allow; undefined where it
   * is not at an end after `most` bytes.
   */
  write(choose: Choose, most: number): Promise<Uint8Array<ArrayBuffer> | undefined>;
}

/** One of the allowed tokens; `EOS` is among them where the text may end. */
export type Choose = (allowed: readonly number[]) => number;

export interface ByteMatcher {
  /** @throws {SchemaError} where a grammar cannot hold the schema. */
  compile(schema: unknown): Promise<Accepter>;
  /** @throws {TypeError} where a grammar cannot hold it. */
  compileText(grammar: TextGrammar): Promise<Accepter>;
  /** @throws {FieldError} naming the function whose schema a grammar cannot hold. */
  compileCalls(calls: CallsGrammar): Promise<Accepter>;
}

/** Under Deno the library loads as a module but looks for CommonJS's names. */
async function loadLibrary(): Promise<typeof XGrammar> {
  const scope: { require?: NodeJS.Require; __filename?: string; xgrammar?: typeof XGrammar } =
    globalThis;
  scope.require = createRequire(import.meta.url);
  scope.__filename = import.meta.filename ?? import.meta.url;
  const imported: typeof XGrammar = await import("@mlc-ai/web-xgrammar");
  return scope.xgrammar ?? imported;
}

export async function byteMatcher(): Promise<ByteMatcher> {
  const library = await loadLibrary();
  const bytes = await spellAll({ tokenizer: new FakeTokenizer(), vocabSize: EOS + 1 });
  const info = await library.TokenizerInfo.createTokenizerInfo(
    [...bytes],
    "byte_level",
    false,
    EOS + 1,
    [EOS],
  );
  const compiler = await library.GrammarCompiler.createGrammarCompiler(info, false);
  const encoder = new TextEncoder();
  const accepter = async (grammar: string): Promise<Accepter> => {
    const compiled = await compiler.compileGrammar(grammar);
    return {
      async accepts(text) {
        const matcher = await library.GrammarMatcher.createGrammarMatcher(compiled);
        const tokens = [...encoder.encode(text), EOS];
        const all = tokens.every((token) => matcher.acceptToken(token));
        matcher.dispose();
        return all;
      },
      async write(choose, most) {
        const matcher = await library.GrammarMatcher.createGrammarMatcher(compiled);
        const written: number[] = [];
        let token = -1;
        while (token !== EOS && written.length < most) {
          const mask = await matcher.getNextTokenBitmask();
          const allowed = Array.from({ length: EOS + 1 }, (_, id) => id)
            .filter((id) => (((mask[id >> 5] ?? 0) >>> (id & 31)) & 1) === 1);
          if (allowed.length === 0) throw new Error("Cannot go on: no token is allowed");
          token = choose(allowed);
          if (!matcher.acceptToken(token)) {
            throw new Error(`Cannot take ${token}, which is allowed`);
          }
          written.push(token);
        }
        matcher.dispose();
        return token === EOS ? Uint8Array.from(written.slice(0, -1)) : undefined;
      },
    };
  };
  return {
    compile: async (schema) => await accepter(compileSchema(schema).text),
    compileText: async (grammar) => await accepter(compileText(grammar).text),
    compileCalls: async (calls) => await accepter(compileCalls(calls).text),
  };
}
