/**
 * Tensors: an `OrtValue` with its type and shape. In host memory it lies over a JavaScript buffer,
 * without a copy, and a tensor keeps both alive.
 */

import type { Copy, DType, Tensor, TypedArray } from "../device.ts";
import type { Handle } from "./handle.ts";
import type { Ort } from "./ort.ts";

interface ElementType {
  /** `ONNXTensorElementDataType`. */
  readonly code: number;
  readonly bytes: number;
  readonly view: (buffer: ArrayBuffer, byteOffset: number, length: number) => TypedArray;
}

const ELEMENT_TYPES: Readonly<Record<DType, ElementType>> = {
  float32: { code: 1, bytes: 4, view: (b, o, n) => new Float32Array(b, o, n) },
  uint8: { code: 2, bytes: 1, view: (b, o, n) => new Uint8Array(b, o, n) },
  int8: { code: 3, bytes: 1, view: (b, o, n) => new Int8Array(b, o, n) },
  int32: { code: 6, bytes: 4, view: (b, o, n) => new Int32Array(b, o, n) },
  int64: { code: 7, bytes: 8, view: (b, o, n) => new BigInt64Array(b, o, n) },
  bool: { code: 9, bytes: 1, view: (b, o, n) => new Uint8Array(b, o, n) },
  float16: { code: 10, bytes: 2, view: (b, o, n) => new Uint16Array(b, o, n) },
  bfloat16: { code: 16, bytes: 2, view: (b, o, n) => new Uint16Array(b, o, n) },
};

const DTYPE_OF_CODE = new Map(
  Object.entries(ELEMENT_TYPES).map(([dtype, { code }]) => [code, dtype as DType]),
);

/** Bytes: a cache line, and the alignment that kernels for the widest vector units like best. */
const ALIGNMENT = 64;
/** Bytes, for large memory: a page on most systems, so that no two rows share one. */
const PAGE_ALIGNMENT = 4096;

/**
 * From this size on (bytes), new memory is a SharedArrayBuffer, which V8 does not count towards its
 * heap: gigabytes reserved for keys and values would otherwise make it collect all the time.
 */
const UNCOUNTED_BYTES = 2 ** 20;

/** The dtype of an `ONNXTensorElementDataType`; undefined for one that lembas does not use. */
export function dtypeOfCode(code: number): DType | undefined {
  return DTYPE_OF_CODE.get(code);
}

/** The `ONNXTensorElementDataType` of a dtype. */
export function codeOfDtype(dtype: DType): number {
  return ELEMENT_TYPES[dtype].code;
}

/** Bytes of one element. */
export function bytesPerElement(dtype: DType): number {
  return ELEMENT_TYPES[dtype].bytes;
}

/**
 * The number of elements of a shape.
 * @throws {RangeError} where a dimension is not a non-negative integer.
 */
export function elementCount(shape: readonly number[]): number {
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new RangeError(`Cannot use shape [${shape}]: ${size} is not a non-negative integer`);
    }
  }
  return shape.reduce((product, size) => product * size, 1);
}

/** A tensor that sessions of ONNX Runtime take. */
export abstract class OrtTensor implements Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  abstract readonly data: TypedArray | undefined;
  /** The `OrtValue`. */
  abstract readonly handle: Handle;

  constructor(dtype: DType, shape: readonly number[]) {
    this.dtype = dtype;
    this.shape = Object.freeze([...shape]);
    this.byteLength = elementCount(shape) * bytesPerElement(dtype);
  }

  release(): void {
    this.handle.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** A tensor in host memory. Make it with `hostTensor`. */
export class HostTensor extends OrtTensor {
  readonly data: TypedArray;
  readonly handle: Handle;

  constructor(ort: Ort, dtype: DType, shape: readonly number[], data: TypedArray) {
    super(dtype, shape);
    const { api, cpuMemory } = ort;
    const type = ELEMENT_TYPES[dtype];
    // Touching `buffer` moves a small array's data off the JavaScript heap, where it cannot move.
    const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    const sizes = new BigUint64Array(shape.map(BigInt));
    this.data = data;
    // The handle outlives this object in a binding or a session, and holds the memory as long.
    const held = { bytes: bytes as Uint8Array | undefined };
    this.handle = ort.handle(
      "tensor",
      (out) =>
        api.CreateTensorWithDataAsOrtValue(
          cpuMemory.pointer,
          bytes,
          BigInt(bytes.byteLength),
          sizes,
          BigInt(shape.length),
          type.code,
          out,
        ),
      (pointer) => {
        api.ReleaseValue(pointer);
        held.bytes = undefined;
      },
    );
  }
}

/**
 * A tensor over `data`, or over new zeroed memory whose pages the system hands out as they are
 * touched.
 * @throws {RangeError} where `data` has another number of elements than `shape`.
 * @throws {TypeError} where `data` is of another element type, or its buffer can move or vanish.
 */
export function hostTensor(
  ort: Ort,
  dtype: DType,
  shape: readonly number[],
  data?: TypedArray,
): HostTensor {
  const count = elementCount(shape);
  if (data === undefined) return new HostTensor(ort, dtype, shape, zeroed(dtype, count));
  if (data.length !== count) {
    throw new RangeError(
      `Cannot make a tensor of shape [${shape}]: it has ${count} elements, the data ${data.length}`,
    );
  }
  checkMemory(dtype, data);
  return new HostTensor(ort, dtype, shape, data);
}

/**
 * A tensor over elements `offset` … of `source`'s memory.
 * @throws {RangeError} where the part does not lie within the source.
 */
export function hostView(
  ort: Ort,
  source: HostTensor,
  offset: number,
  shape: readonly number[],
): HostTensor {
  const count = elementCount(shape);
  checkRange("view", source, offset, count);
  const data = source.data.subarray(offset, offset + count);
  return new HostTensor(ort, source.dtype, shape, data);
}

/** @throws {RangeError} where elements `offset` … `offset + count` do not lie within the tensor. */
export function checkRange(action: string, tensor: Tensor, offset: number, count: number): void {
  const length = tensor.byteLength / bytesPerElement(tensor.dtype);
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(count);
  if (whole && offset >= 0 && count >= 0 && offset + count <= length) return;
  throw new RangeError(
    `Cannot ${action} elements ${offset} to ${offset + count}: the tensor has ${length}`,
  );
}

/** @throws where one tensor's contents cannot be another's (`Device.copy`). */
export function checkCopy({ from, to }: Copy): void {
  if (from.dtype !== to.dtype) {
    throw new TypeError(`Cannot copy: one tensor is ${from.dtype}, the other ${to.dtype}`);
  }
  if (from.byteLength === to.byteLength) return;
  throw new RangeError(`Cannot copy a tensor of shape [${from.shape}] to one of [${to.shape}]`);
}

function zeroed(dtype: DType, count: number): TypedArray {
  const { bytes, view } = ELEMENT_TYPES[dtype];
  const large = count * bytes >= UNCOUNTED_BYTES;
  const alignment = large ? PAGE_ALIGNMENT : ALIGNMENT;
  const size = count * bytes + alignment;
  const buffer = large
    ? new SharedArrayBuffer(size) as ArrayBufferLike as ArrayBuffer
    : new ArrayBuffer(size);
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(new Uint8Array(buffer)));
  const past = Number(address % BigInt(alignment));
  return view(buffer, past === 0 ? 0 : alignment - past, count);
}

function checkMemory(dtype: DType, data: TypedArray): void {
  const expected = ELEMENT_TYPES[dtype].view(new ArrayBuffer(0), 0, 0).constructor.name;
  if (data.constructor.name !== expected) {
    throw new TypeError(
      `Cannot make a ${dtype} tensor over ${data.constructor.name}: it wants ${expected}`,
    );
  }
  const buffer: ArrayBufferLike = data.buffer;
  if (buffer instanceof ArrayBuffer && buffer.resizable) {
    throw new TypeError("Cannot make a tensor over a resizable ArrayBuffer: its memory may move");
  }
}
