/**
 * Where the tokens of a pass's texts lie: packed end to end for all that works token by token, each
 * text in a row of a grid as wide as the longest for attention. Cells behind a text name its first
 * token and are not looked at.
 */
import type { EncoderConfig } from "../../checkpoint/encoder/config.ts";
import type { Framed } from "../../checkpoint/encoder/frame.ts";

export interface TextLayout {
  readonly tokens: number;
  /** The longest text's tokens. */
  readonly time: number;
  readonly ids: Int32Array<ArrayBuffer>;
  readonly positions: Int32Array<ArrayBuffer>;
  readonly types: Int32Array<ArrayBuffer>;
  /** Tokens of each text. */
  readonly lengths: Int32Array<ArrayBuffer>;
  /** Where each text begins among the tokens. */
  readonly starts: readonly number[];
  readonly cells: Int32Array<ArrayBuffer>;
  readonly places: Int32Array<ArrayBuffer>;
}

/** Texts have a token each at least. */
export function layoutOf(config: EncoderConfig, texts: readonly Framed[]): TextLayout {
  const lengths = Int32Array.from(texts, ({ ids }) => ids.length);
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const time = lengths.reduce((most, length) => Math.max(most, length), 0);
  const starts: number[] = [];
  const cells = new Int32Array(texts.length * time);
  const places = new Int32Array(tokens);
  let start = 0;
  lengths.forEach((length, row) => {
    starts.push(start);
    cells.fill(start, row * time, (row + 1) * time);
    for (let t = 0; t < length; t++) {
      places[start + t] = row * time + t;
      cells[row * time + t] = start + t;
    }
    start += length;
  });
  return {
    ...{ tokens, time, lengths, starts, cells, places },
    ids: Int32Array.from(texts.flatMap(({ ids }) => ids)),
    types: Int32Array.from(texts.flatMap(({ types }) => types)),
    positions: Int32Array.from(texts.flatMap(({ ids }) => positionsOf(config, ids))),
  };
}

/** RoBERTa's family numbers what is no padding token, and gives that one the row before the first. */
function positionsOf(
  { architecture, firstPosition, padTokenId }: EncoderConfig,
  ids: readonly number[],
) {
  if (architecture === "bert") return ids.map((_, i) => i);
  let next = firstPosition;
  return ids.map((id) => id === padTokenId ? firstPosition - 1 : next++);
}
