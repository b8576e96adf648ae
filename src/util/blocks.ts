/**
 * Weights as small integers in blocks along the inputs, in the layout that ONNX Runtime's
 * MatMulNBits reads: w = scale · (q - middle) + offset. Checkpoints hand them out, kernels take them.
 */

/** How a weight lies in blocks. */
export interface BlockForm {
  readonly bits: 4 | 8;
  /** Inputs that share a scale: a power of two from 16. */
  readonly size: number;
  /** Whether blocks have an offset beside the scale. */
  readonly offsets: boolean;
}

export interface Blocks {
  /** [out, in/size, size · bits/8], of 4 bits two a byte, low nibble first; middle is 8 or 128. */
  readonly q: Uint8Array;
  /** [out, in/size]. */
  readonly scales: Float32Array;
  /** [out, in/size]; undefined where the form has none. */
  readonly offsets: Float32Array | undefined;
}

/** A weight that is stored in blocks. */
export interface StoredBlocks extends BlockForm {
  /** The blocks, newly allocated. */
  readonly read: () => Blocks;
}

/** What q stands for zero, before the offset. */
export function middleOf(bits: 4 | 8): number {
  return bits === 4 ? 8 : 128;
}
