/**
 * Rows of few tokens, packed for the graph `few`. The softmax adds up lane by lane, position modulo
 * at most 16, and a block's sum goes by places in the block: tokens keep their lanes and places, and
 * most of what lies between, probability 0, goes. So sums have the bits of those over the whole row.
 */
import { farBelow } from "./choice.ts";
import { passedBlock, passedIndex } from "./draw.ts";
import { SUM_BLOCK } from "./graphs.ts";

export interface FewTokens {
  /** By rising id. */
  readonly ids: Int32Array;
  readonly logits: Float32Array;
}

/** A row's tokens in packed memory. */
interface PackedRow {
  readonly start: number;
  readonly ids: Int32Array;
  /** Where each token's logit is. */
  readonly at: Int32Array;
  /** The tokens of each block begin at these indices. */
  readonly blocks: readonly number[];
}

/** Lanes of the widest softmax. */
const LANES = 16;
/** The sum of two numbers has one order; of more, the operator's. */
const CROWD = 3;

export class PackedTokens {
  /** [n, width] */
  readonly logits: Float32Array;
  /** [n, width], each in 0 … room - 1. */
  readonly places: Int32Array;
  readonly width: number;
  /** Whole blocks: the crowded ones, and one for all other numbers. */
  readonly room: number;
  readonly #rows: readonly PackedRow[];

  constructor(rows: readonly FewTokens[]) {
    const chunks = rows.map(({ ids }) => startsOf(ids, LANES).length);
    this.width = LANES * Math.max(...chunks);
    this.#rows = rows.map(({ ids }, r) => packedRow(ids, r * this.width));
    const crowds = this.#rows.map((row) => row.blocks.filter((_, b) => isCrowded(row, b)).length);
    this.room = SUM_BLOCK * (1 + Math.max(...crowds));
    this.logits = new Float32Array(rows.length * this.width);
    this.places = new Int32Array(this.logits.length).fill(this.room - 1);
    this.#rows.forEach((row, r) => this.#fill(row, rows[r].logits));
  }

  /** The token that row `r` draws, with the graph's numbers for all rows. */
  draw(r: number, uniform: number, probabilities: Float32Array, sums: Float32Array): number {
    const row = this.#rows[r];
    const { ids, at, blocks } = row;
    let crowd = r * this.room / SUM_BLOCK;
    const own = Float32Array.from(blocks, (first, b) => {
      if (isCrowded(row, b)) return sums[crowd++];
      const second = first + 1 < endOf(row, b) ? probabilities[at[first + 1]] : 0;
      return probabilities[at[first]] + second;
    });
    const { block, past } = passedBlock(own, uniform);
    const inside = at.subarray(blocks[block], endOf(row, block));
    const index = passedIndex(Float32Array.from(inside, (where) => probabilities[where]), past);
    return ids[blocks[block] + index];
  }

  #fill(row: PackedRow, logits: Float32Array): void {
    const { ids, at, blocks } = row;
    const most = logits.reduce((most, logit) => Math.max(most, logit), -Infinity);
    this.logits.fill(farBelow(most), row.start, row.start + this.width);
    for (let i = 0; i < ids.length; i++) this.logits[at[i]] = logits[i];
    let crowd = 0;
    blocks.forEach((first, b) => {
      if (!isCrowded(row, b)) return;
      for (let i = first; i < endOf(row, b); i++) {
        this.places[at[i]] = crowd * SUM_BLOCK + ids[i] % SUM_BLOCK;
      }
      crowd++;
    });
  }
}

function packedRow(ids: Int32Array, start: number): PackedRow {
  const at = new Int32Array(ids.length);
  let chunk = -1;
  for (let i = 0; i < ids.length; i++) {
    if (i === 0 || Math.floor(ids[i] / LANES) > Math.floor(ids[i - 1] / LANES)) chunk++;
    at[i] = start + chunk * LANES + ids[i] % LANES;
  }
  return { start, ids, at, blocks: startsOf(ids, SUM_BLOCK) };
}

function endOf({ ids, blocks }: PackedRow, block: number): number {
  return blocks[block + 1] ?? ids.length;
}

function isCrowded(row: PackedRow, block: number): boolean {
  return endOf(row, block) - row.blocks[block] >= CROWD;
}

/** Where groups of `size` neighbours begin among rising ids. */
function startsOf(ids: Int32Array, size: number): number[] {
  const starts: number[] = [];
  let last = -1;
  for (let i = 0; i < ids.length; i++) {
    const group = Math.floor(ids[i] / size);
    if (group !== last) starts.push(i);
    last = group;
  }
  return starts;
}
