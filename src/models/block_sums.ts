/**
 * Offsets of blocks within MatMulNBits' packed form. The kernel (MLAS's SQNBitGemm on x64) computes
 * scale · q · x for unsigned steps q, and adds the product of x's block sums with a matrix that it has
 * packed behind the steps: -middle · scale of each block, in panels of 16 outputs. Offset - middle ·
 * scale in their place gives w = scale · (q - middle) + offset, exactly, for no byte and no node more.
 *
 * Trap: nothing documents that form, so it is looked for, not assumed: a packed form that does not have
 * the sums just there is refused, and `packed_sums.ts` tries at each start what ONNX Runtime makes
 * of a file with others.
 */
import type { BlockSums, Place } from "../graph/lowering/onnx.ts";
import { middleOf } from "../util/blocks.ts";

/** Bytes that the sums are aligned to, as the steps before them. */
const ALIGNMENT = 64;
/** Outputs of a panel. */
const PANEL = 16;

/** The packed form is not the one that is known. */
export class ForeignPacking extends Error {}

/** Offsets of blocks, made. */
export type MadeSums = Omit<BlockSums, "make"> & Awaited<ReturnType<BlockSums["make"]>>;

/**
 * Puts offsets into the packed form that a file has of a weight.
 * @throws {ForeignPacking} where it has none, or one that is not known
 */
export async function replaceSumsIn(
  path: string,
  place: Place | undefined,
  sums: MadeSums,
): Promise<void> {
  // KEY|OFFSET;LENGTH;…
  const [, offset, length] = /\|(\d+);(\d+)/.exec(place?.prepacked_0 ?? "") ?? [];
  if (offset === undefined) throw new ForeignPacking("nothing is packed");
  using file = await Deno.open(path, { read: true, write: true });
  const packed = new Uint8Array(Number(length));
  await file.seek(Number(offset), Deno.SeekMode.Start);
  for (let at = 0; at < packed.length;) at += await file.read(packed.subarray(at)) ?? NaN;
  replaceSums(packed, sums);
  await file.seek(Number(offset), Deno.SeekMode.Start);
  for (let at = 0; at < packed.length;) at += await file.write(packed.subarray(at));
}

/**
 * Puts offsets where a packed form has sums of its own.
 * @throws {ForeignPacking} where it has none there
 */
export function replaceSums(
  packed: Uint8Array,
  { bits, size, outputs, perRow, scales, offsets }: MadeSums,
): void {
  const middle = middleOf(bits);
  const start = Math.ceil(outputs * perRow * size * bits / 8 / ALIGNMENT) * ALIGNMENT;
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  for (let row = 0; row < outputs; row++) {
    const panel = Math.floor(row / PANEL) * perRow;
    for (let block = 0; block < perRow; block++) {
      const at = start + 4 * ((panel + block) * PANEL + row % PANEL);
      const own = Math.fround(-scales[row * perRow + block] * middle);
      if (at + 4 > packed.length || view.getFloat32(at, true) !== own) {
        throw new ForeignPacking(`no sum of block ${block} of output ${row} at byte ${at}`);
      }
      view.setFloat32(at, offsets[block * outputs + row] + own, true);
    }
  }
}
