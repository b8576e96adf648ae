/**
 * The real grammar library over a tokenizer of single bytes: whether a schema's grammar accepts a
 * text, byte by byte, to its end.
 */
import { createRequire } from "node:module";
import type * as XGrammar from "@mlc-ai/web-xgrammar";
import { compileSchema } from "../../../src/engine/grammar/compile_schema.ts";
import { spellAll } from "../../../src/engine/grammar/vocabulary.ts";
import { EOS, FakeTokenizer } from "../../fakes/tokenizer.ts";

/** A schema's grammar, compiled. */
export interface Accepter {
  accepts(text: string): Promise<boolean>;
}

export interface ByteMatcher {
  /** @throws {SchemaError} where a grammar cannot hold the schema. */
  compile(schema: unknown): Promise<Accepter>;
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
  return {
    async compile(schema) {
      const compiled = await compiler.compileGrammar(compileSchema(schema).text);
      return {
        async accepts(text) {
          const matcher = await library.GrammarMatcher.createGrammarMatcher(compiled);
          const tokens = [...encoder.encode(text), EOS];
          const all = tokens.every((token) => matcher.acceptToken(token));
          matcher.dispose();
          return all;
        },
      };
    },
  };
}
