/**
 * Rows of few tokens, packed for the graph `few`. The softmax adds up lane by lane, position modulo
 * at most 16, and the draw block by block of 256: tokens keep their lanes and their places in blocks,
 * and what lies between, probability 0, goes. So sums have the bits of those over the whole row.
 */
import { SUM_BLOCK } from "./graphs.ts";

export interface FewTokens {
  /** By rising id. */
  readonly ids: Int32Array;
  readonly logits: Float32Array;
}

export interface Packed {
  /** [n, width] */
  readonly logits: Float32Array;
  /** [n, width], each in 0 … room - 1. */
  readonly places: Int32Array;
  readonly width: number;
  /** Whole blocks, one of them for what is no token. */
  readonly room: number;
  /** Of each row, the ids of its blocks. */
  readonly blocks: readonly Int32Array[];
}

/** Tokens that share a row of the softmax's lanes. */
const LANES = 16;

export function pack(rows: readonly FewTokens[]): Packed {
  const blocks = rows.map(({ ids }) => unique(ids, SUM_BLOCK));
  const chunks = rows.map(({ ids }) => unique(ids, LANES));
  const width = LANES * Math.max(...chunks.map(({ length }) => length));
  const room = SUM_BLOCK * (1 + Math.max(...blocks.map(({ length }) => length)));
  const logits = new Float32Array(rows.length * width).fill(-Infinity);
  const places = new Int32Array(rows.length * width).fill(room - 1);
  rows.forEach((row, r) => {
    let [chunk, block] = [0, 0];
    for (let i = 0; i < row.ids.length; i++) {
      const id = row.ids[i];
      while (chunks[r][chunk] < Math.floor(id / LANES)) chunk++;
      while (blocks[r][block] < Math.floor(id / SUM_BLOCK)) block++;
      const at = r * width + chunk * LANES + id % LANES;
      logits[at] = row.logits[i];
      places[at] = block * SUM_BLOCK + id % SUM_BLOCK;
    }
  });
  return { logits, places, width, room, blocks };
}

/** Which groups of `size` neighbours rising ids are in. */
function unique(ids: Int32Array, size: number): Int32Array {
  const found: number[] = [];
  for (const id of ids) {
    const group = Math.floor(id / size);
    if (group !== found.at(-1)) found.push(group);
  }
  return Int32Array.from(found);
}
