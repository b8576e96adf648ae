/**
 * Text sources for the tests of training data: the tiny tokenizers with given templates, files made
 * of lines. It loads no weights.
 */
import { plainForm } from "../fakes/form.ts";
import { JinjaChatTemplate, type SpecialTokens } from "../../src/checkpoint/text/chat_template.ts";
import type { DecoderConfig } from "../../src/checkpoint/checkpoint.ts";
import { JsonTokenizer, readTokenizerJson } from "../../src/checkpoint/text/tokenizer.ts";
import type { TextSource } from "../../src/train/data/render.ts";
import { fixtureJson } from "../checkpoint/fixtures.ts";

const CONFIG: DecoderConfig = {
  ...plainForm(16),
  architecture: "llama",
  vocabSize: 0,
  hiddenSize: 64,
  intermediateSize: 96,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 16,
  maxPositions: 512,
  rmsNormEps: 1e-5,
  tieEmbeddings: true,
  qkvBias: false,
  outputBias: false,
  bosTokenId: 0,
  eosTokenIds: [2],
};

export const CHATML: SpecialTokens = Object.fromEntries([
  ["bos_token", "<|im_start|>"],
  ["eos_token", "<|im_end|>"],
]);

export interface SourceOptions {
  /** Of `tests/fixtures/checkpoint/tokenizers`. */
  readonly tokenizer: string;
  /** Jinja; undefined = the model has none. */
  readonly template?: string;
  readonly special?: SpecialTokens;
  readonly eosTokenIds?: readonly number[];
}

export function tinySource(
  { tokenizer: name, template, special = CHATML, eosTokenIds = [2] }: SourceOptions,
): TextSource {
  const json = fixtureJson<unknown>(`tokenizers/${name}.json`);
  const tokenizer = new JsonTokenizer(readTokenizerJson(json));
  return {
    id: "tiny",
    config: { ...CONFIG, vocabSize: tokenizer.vocabSize, eosTokenIds },
    tokenizer,
    chatTemplate: template === undefined ? undefined : new JinjaChatTemplate(template, special),
  };
}

/** A template of the checkpoint fixtures: chatml, headers, tools or strict. */
export function templateSource(name: string): string {
  const { templates } = fixtureJson<{ readonly templates: Readonly<Record<string, string>> }>(
    "templates.json",
  );
  const source = templates[name];
  if (source === undefined) throw new RangeError(`There is no template '${name}'`);
  return source;
}

/** A file of these lines: strings as they are, all else as JSON. */
export function fileOf(...lines: readonly unknown[]): Uint8Array {
  const texts = lines.map((line) => typeof line === "string" ? line : JSON.stringify(line));
  return new TextEncoder().encode(texts.join("\n"));
}

/** Messages of user and assistant in turn. */
export function turns(...contents: readonly string[]): { role: string; content: string }[] {
  return contents.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content }));
}
