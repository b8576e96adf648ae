// deno-lint-ignore-file camelcase -- the field names are tokenizer.json's
/**
 * The shape of a `tokenizer.json` as far as lembas looks into it, and the pre-tokenizers of the
 * byte-level BPE families by the names that llama.cpp gives them. It tokenises nothing.
 */

/** One part of a tokenizer.json pipeline; the fields depend on the type. */
export interface Step {
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly normalized: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly single_word: boolean;
}

export interface TokenizerJson {
  readonly added_tokens: readonly AddedTokenJson[];
  readonly normalizer: Step | null;
  readonly pre_tokenizer: Step | null;
  readonly post_processor: Step | null;
  readonly decoder: Step | null;
  readonly model: Step;
}

/** The split of GPT-2, which `ByteLevel` does where `use_regex` is set. */
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const TAIL = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const LLAMA3 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|` +
  ` ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${TAIL}`;
const QWEN2 = LLAMA3.replace("{1,3}", "");
const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const TEKKEN =
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*|` +
  `\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${TAIL}`;
const DIGIT = "\\p{N}";

/** What a byte-level family does before its merges. */
export interface PreTokenization {
  /** Regular expressions that split the text, one after another. */
  readonly splits: readonly string[];
  readonly normalizer: Step | null;
  /** A piece that is a token as a whole is taken so, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Whether the family begins a text with its BOS where the file does not say. */
  readonly addsBos: boolean;
}

const PLAIN: PreTokenization = {
  splits: [GPT2],
  normalizer: null,
  ignoreMerges: false,
  addsBos: false,
};
const DIGITS: PreTokenization = { ...PLAIN, splits: [DIGIT, GPT2] };
const LLAMA: PreTokenization = {
  splits: [LLAMA3],
  normalizer: null,
  ignoreMerges: true,
  addsBos: true,
};
const QWEN: PreTokenization = { ...PLAIN, splits: [QWEN2], normalizer: { type: "NFC" } };

/** By the values of GGUF's `tokenizer.ggml.pre`. */
export const PRE_TOKENIZATIONS: ReadonlyMap<string, PreTokenization> = new Map([
  ["default", PLAIN],
  ["gpt-2", PLAIN],
  ["smollm", DIGITS],
  ["starcoder", DIGITS],
  ["refact", DIGITS],
  ["llama-bpe", LLAMA],
  ["llama3", LLAMA],
  ["llama-v3", LLAMA],
  ["smaug-bpe", LLAMA],
  ["qwen2", QWEN],
  ["deepseek-r1-qwen", { ...QWEN, normalizer: null }],
  ["tekken", { ...LLAMA, splits: [TEKKEN] }],
]);

/** A step that cuts the text at, and keeps, each match of `regex`. */
export function splitStep(regex: string): Step {
  return { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false };
}

function replaceStep(regex: string): Step {
  return { type: "Replace", pattern: { Regex: regex } };
}

/** A space before a text that has none. */
const PREFIX_SPACE: Step = { ...replaceStep("\\A[^ ]"), content: " $&" };

/** Cuts the text before each `mark`. */
function beforeEach(mark: string): Step {
  const one = RegExp.escape(mark);
  return { ...splitStep(`${one}[^${one}]*|[^${one}]+`), invert: true };
}

/** The steps of a `Sequence`, or the one step itself. */
export function stepsOf(step: Step | null, field: string): readonly Step[] {
  if (step === null) return [];
  if (step.type !== "Sequence") return [step];
  const inner = Array.isArray(step[field]) ? step[field] as readonly Step[] : [];
  return inner.flatMap((one) => stepsOf(one, field));
}

/** Whether a `Metaspace` puts its mark before each text, the first, or none. */
export function prependScheme(step: Step): unknown {
  return step["prepend_scheme"] ?? (step["add_prefix_space"] === false ? "never" : "always");
}

/**
 * The same pre-tokenizer in terms that mean the same in JavaScript's regular expressions as in
 * the Rust library's: Unicode digits for `Digits`, Unicode white space for `ByteLevel`'s split.
 */
export function portablePreTokenizer(step: Step | null): Step | null {
  const steps = stepsOf(step, "pretokenizers").flatMap(portableSteps);
  return steps.length === 0 ? null : { type: "Sequence", pretokenizers: steps };
}

function portableSteps(step: Step): readonly Step[] {
  switch (step.type) {
    case "Digits":
      return [splitStep(step["individual_digits"] === true ? DIGIT : `${DIGIT}+`)];
    case "ByteLevel":
      return [
        ...(step["add_prefix_space"] === true ? [PREFIX_SPACE] : []),
        ...(step["use_regex"] === false ? [] : [splitStep(GPT2)]),
        { ...step, add_prefix_space: false, use_regex: false },
      ];
    case "Metaspace":
      return [
        { ...step, prepend_scheme: prependScheme(step) },
        ...(step["split"] === false ? [] : [beforeEach(String(step["replacement"] ?? "\u2581"))]),
      ];
    default:
      return [step];
  }
}

/** The same normalizer, with Unicode's white space in `Strip`. */
export function portableNormalizer(step: Step | null): Step | null {
  const normalizers = stepsOf(step, "normalizers").flatMap((one): readonly Step[] => {
    if (one.type !== "Strip") return [one];
    const cut = (regex: string): Step => ({ ...replaceStep(regex), content: "" });
    return [
      ...(one["strip_left"] === false ? [] : [cut("\\A\\s+")]),
      ...(one["strip_right"] === false ? [] : [cut("\\s+\\z")]),
    ];
  });
  return normalizers.length === 0 ? null : { type: "Sequence", normalizers };
}
