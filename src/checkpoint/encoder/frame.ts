// deno-lint-ignore-file camelcase -- the field names are tokenizer.json's
/**
 * How a tokenizer frames one text or a pair (`[CLS] a [SEP]`, `<s> a </s></s> b </s>`), with the type
 * of each token, and how texts that are too long are cut: from the end, of a pair the longer one first.
 */
import { type Step, stepsOf, type TokenizerJson } from "../text/tokenizer_json.ts";

/** Ids of special tokens, or a text, with its token type. */
type Part =
  | { readonly ids: readonly number[]; readonly type: number }
  | { readonly text: "A" | "B"; readonly type: number };

/** Ids with the type of each. */
export interface Framed {
  readonly ids: readonly number[];
  readonly types: readonly number[];
}

export class Frame {
  readonly #single: readonly Part[];
  readonly #pair: readonly Part[];

  readonly #types: number;

  /**
   * @param types that there are: a token of a higher one has the first
   * @throws {TypeError} for a post-processor of a kind that is not supported
   */
  constructor({ post_processor: post }: TokenizerJson, types: number) {
    this.#types = types;
    const steps = stepsOf(post, "processors");
    const framing = steps.find(({ type }) => type !== "ByteLevel");
    [this.#single, this.#pair] = framing === undefined ? PLAIN : partsOf(framing);
  }

  /** Special tokens around one text, or a pair. */
  special(of: "single" | "pair"): number {
    const parts = of === "single" ? this.#single : this.#pair;
    return parts.reduce((sum, part) => sum + ("ids" in part ? part.ids.length : 0), 0);
  }

  /** One text of at most `most` tokens, special ones included. */
  one(ids: readonly number[], most: number): Framed {
    const kept = ids.slice(0, Math.max(0, most - this.special("single")));
    return join(this.#single, kept, [], this.#types);
  }

  /** A pair of at most `most` tokens, special ones included. */
  two(a: readonly number[], b: readonly number[], most: number): Framed {
    const [x, y] = longestFirst(a.length, b.length, Math.max(0, most - this.special("pair")));
    return join(this.#pair, a.slice(0, x), b.slice(0, y), this.#types);
  }
}

const PLAIN: readonly [readonly Part[], readonly Part[]] = [
  [{ text: "A", type: 0 }],
  [{ text: "A", type: 0 }, { text: "B", type: 0 }],
];

/** What is left of two texts, as the Rust library's `LongestFirst` cuts them. */
function longestFirst(a: number, b: number, most: number): readonly [number, number] {
  if (a + b <= most) return [a, b];
  let [short, long] = a < b ? [a, b] : [b, a];
  long = short > most ? short : Math.max(short, most - short);
  if (short + long > most) {
    short = Math.floor(most / 2);
    long = short + most % 2;
  }
  return a < b ? [short, long] : [long, short];
}

function join(
  parts: readonly Part[],
  a: readonly number[],
  b: readonly number[],
  most: number,
): Framed {
  const ids: number[] = [];
  const types: number[] = [];
  for (const part of parts) {
    const own = "ids" in part ? part.ids : part.text === "A" ? a : b;
    for (const id of own) {
      ids.push(id);
      types.push(part.type < most ? part.type : 0);
    }
  }
  return { ids, types };
}

function partsOf(step: Step): readonly [readonly Part[], readonly Part[]] {
  switch (step.type) {
    case "TemplateProcessing":
      return [template(step, "single"), template(step, "pair")];
    case "BertProcessing": {
      const [cls, sep] = [token(step, "cls"), token(step, "sep")];
      const single: Part[] = [special(cls), { text: "A", type: 0 }, special(sep)];
      return [single, [...single, { text: "B", type: 1 }, special(sep, 1)]];
    }
    case "RobertaProcessing": {
      const [cls, sep] = [token(step, "cls"), token(step, "sep")];
      const single: Part[] = [special(cls), { text: "A", type: 0 }, special(sep)];
      return [single, [...single, special(sep), { text: "B", type: 0 }, special(sep)]];
    }
    default:
      throw new TypeError(
        `Cannot load the tokenizer: its post-processor is ${step.type}; supported are ` +
          "TemplateProcessing, BertProcessing and RobertaProcessing",
      );
  }
}

function special(id: number, type = 0): Part {
  return { ids: [id], type };
}

/** `["[CLS]", 101]` */
function token(step: Step, name: string): number {
  const value = step[name];
  const id: unknown = Array.isArray(value) ? value[1] : undefined;
  if (typeof id === "number") return id;
  throw new TypeError(`Cannot load the tokenizer: its ${step.type} has no token ${name}`);
}

interface TemplatePiece {
  readonly SpecialToken?: { readonly id: string; readonly type_id: number };
  readonly Sequence?: { readonly id: "A" | "B"; readonly type_id: number };
}

function template(step: Step, which: "single" | "pair"): readonly Part[] {
  const pieces = (step[which] ?? []) as readonly TemplatePiece[];
  const tokens = (step["special_tokens"] ?? {}) as Readonly<
    Record<string, { readonly ids: readonly number[] } | undefined>
  >;
  return pieces.map(({ SpecialToken: own, Sequence: text }) => {
    if (text !== undefined) return { text: text.id, type: text.type_id };
    const ids = tokens[own?.id ?? ""]?.ids;
    if (ids === undefined) {
      throw new TypeError(`Cannot load the tokenizer: its template's '${own?.id}' has no ids`);
    }
    return { ids, type: own?.type_id ?? 0 };
  });
}
