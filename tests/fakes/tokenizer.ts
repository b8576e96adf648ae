/**
 * A tokenizer without a file: every byte is a token, then two special tokens, then a few words and
 * pieces of words. It encodes greedily.
 */
import type { Tokenizer } from "../../src/checkpoint/checkpoint.ts";

export const EOS = 256;
export const SPECIAL = 257;

const PIECES = [
  ..." the| a| lembas| bread| elf| road|ing|ed|er|lo|he|llo|wor|ld|, |. |\n\n|ab|abc|bc|cd".split(
    "|",
  ),
  ...'{"|": |", "|"}|true|false|null|12|[]|{}|": "|é|日本|🙂|Ä'.split("|"),
];

/** 256 bytes, EOS, one more special token, and the pieces. */
export class FakeTokenizer implements Tokenizer {
  readonly #bytes: readonly Uint8Array[];
  readonly #ids = new Map<string, number>();

  constructor() {
    const encoder = new TextEncoder();
    const single = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
    const special = [new Uint8Array(0), new Uint8Array(0)];
    this.#bytes = [...single, ...special, ...PIECES.map((piece) => encoder.encode(piece))];
    for (const [id, bytes] of this.#bytes.entries()) {
      if (bytes.length > 0) this.#ids.set(bytes.join(), id);
    }
  }

  get vocabSize(): number {
    return this.#bytes.length;
  }

  leastTokens(text: string): number {
    const longest = Math.max(...this.#bytes.map((bytes) => bytes.length), "<|turn|>".length);
    return Math.ceil(new TextEncoder().encode(text).length / longest);
  }

  encode(text: string): number[] {
    const bytes = new TextEncoder().encode(text);
    const ids: number[] = [];
    for (let at = 0; at < bytes.length;) {
      const id = this.#longest(bytes, at);
      ids.push(id);
      at += this.tokenBytes(id).length;
    }
    return ids;
  }

  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean }): string {
    const skip = options?.skipSpecialTokens ?? true;
    let text = "";
    let run: number[] = [];
    for (const id of [...ids, undefined]) {
      if (id !== undefined && !this.isSpecial(id)) {
        run.push(...this.tokenBytes(id));
        continue;
      }
      if (id !== undefined && skip) continue;
      text += new TextDecoder().decode(Uint8Array.from(run)) +
        (id === undefined ? "" : this.tokenText(id));
      run = [];
    }
    return text;
  }

  tokenBytes(id: number): Uint8Array {
    const bytes = this.#bytes[id];
    if (bytes === undefined) throw new RangeError(`Cannot spell token ${id}`);
    return bytes;
  }

  tokenText(id: number): string {
    if (id === EOS) return "<|end|>";
    if (id === SPECIAL) return "<|turn|>";
    return new TextDecoder().decode(this.tokenBytes(id));
  }

  tokenId(text: string): number | undefined {
    if (text === "<|end|>") return EOS;
    if (text === "<|turn|>") return SPECIAL;
    return this.#ids.get(new TextEncoder().encode(text).join());
  }

  isSpecial(id: number): boolean {
    return id === EOS || id === SPECIAL;
  }

  #longest(bytes: Uint8Array, at: number): number {
    for (let length = Math.min(12, bytes.length - at); length > 1; length--) {
      const id = this.#ids.get(bytes.subarray(at, at + length).join());
      if (id !== undefined) return id;
    }
    return bytes[at] ?? 0;
  }
}
