/**
 * Examples as people and programs can check them: each token with its weight, and a text in which
 * the tokens that carry loss are marked.
 */
import { joinBytes } from "../../util/bytes.ts";
import type { Tokenizer } from "../../checkpoint/checkpoint.ts";
import type { Example } from "../gradients/model.ts";

/** One token of an example, for programs. */
export interface TokenView {
  readonly id: number;
  /** U+FFFD where the token's bytes are no whole characters. */
  readonly text: string;
  /** Of the loss of predicting it. */
  readonly weight: number;
}

/** How loss is marked: with brackets, or with a terminal's colours. */
export type Marks = "brackets" | "colours";

/** The tokens of an example, one by one. */
export function tokenViews(example: Example, tokenizer: Tokenizer): readonly TokenView[] {
  return Array.from(example.tokens, (id, i) => ({
    id,
    text: decode(bytesOf(id, tokenizer)),
    weight: example.weights[i] ?? 0,
  }));
}

/**
 * The text of an example with what carries loss as `⟦text⟧`, or `⟦text⟧×0.5` where its weight is
 * not 1; in colours, that is green and the rest dim. Control characters are spelt out (`\x1b`), so
 * that no file can steer a terminal.
 */
export function showExample(example: Example, tokenizer: Tokenizer, marks: Marks): string {
  let text = "";
  for (const { weight, ids } of runsOf(example)) {
    const run = spelt(decode(joinBytes(ids.map((id) => bytesOf(id, tokenizer)))));
    text += weight === 0 ? MARKS[marks].plain(run) : MARKS[marks].loss(run, weight);
  }
  return text;
}

interface Run {
  readonly weight: number;
  readonly ids: readonly number[];
}

/** Neighbours of the same weight together, so that characters of several tokens come out whole. */
function runsOf({ tokens, weights }: Example): readonly Run[] {
  const runs: { weight: number; ids: number[] }[] = [];
  tokens.forEach((id, i) => {
    const weight = weights[i] ?? 0;
    const last = runs.at(-1);
    if (last?.weight === weight) last.ids.push(id);
    else runs.push({ weight, ids: [id] });
  });
  return runs;
}

interface Marking {
  plain(text: string): string;
  loss(text: string, weight: number): string;
}

const MARKS: Readonly<Record<Marks, Marking>> = {
  brackets: {
    plain: (text) => text,
    loss: (text, weight) => `⟦${text}⟧${times(weight)}`,
  },
  colours: {
    plain: (text) => `\x1b[2m${text}\x1b[22m`,
    loss: (text, weight) => `\x1b[32m${text}${times(weight)}\x1b[39m`,
  },
};

function times(weight: number): string {
  return weight === 1 ? "" : `×${Number(weight.toPrecision(6))}`;
}

/** A special token's are those of its spelling. */
function bytesOf(id: number, tokenizer: Tokenizer): Uint8Array {
  return tokenizer.isSpecial(id)
    ? new TextEncoder().encode(tokenizer.tokenText(id))
    : tokenizer.tokenBytes(id);
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** Keeps tabs and newlines. */
function spelt(text: string): string {
  return text.replace(
    // deno-lint-ignore no-control-regex -- these are what a terminal obeys
    /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
