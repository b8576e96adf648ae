/**
 * BERT's normaliser as the Rust library has it: control characters out, ideographs apart, accents off
 * and lower case, character by character. (@huggingface/tokenizers looks at UTF-16 units, so that it
 * misses ideographs beyond U+FFFF, and lowers a word's last sigma as Greek is written.)
 */
import type { Step } from "./tokenizer_json.ts";

/** Blocks of ideographs, as the Rust library lists them. */
const IDEOGRAPHS =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

/** What stands for nothing: control, format, private and unassigned characters but white space. */
const NOTHING = /[\0\ufffd]|(?![\t\n\r])\p{C}/gu;

/** Undefined for any other step. */
export function bertNormalizer(step: Step | null): ((text: string) => string) | undefined {
  if (step?.type !== "BertNormalizer") return undefined;
  const lowers = step["lowercase"] === true;
  const strips = step["strip_accents"] ?? lowers;
  return (text) => {
    let out = text;
    if (step["clean_text"] === true) out = out.replace(NOTHING, "").replace(/\s/gu, " ");
    if (step["handle_chinese_chars"] === true) out = out.replace(IDEOGRAPHS, " $& ");
    if (strips === true) out = out.normalize("NFD").replace(/\p{Mn}/gu, "");
    return lowers ? Array.from(out, (character) => character.toLowerCase()).join("") : out;
  };
}
