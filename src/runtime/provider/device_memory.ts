/**
 * Memory on a device: tensors in it, and copies there and back. Trap: the address of a tensor on WebGPU
 * is a buffer's handle, to which nothing may be added, so a view begins where its source does.
 */
import type { Copy, DType, Tensor } from "../device.ts";
import type { Counted, Handle } from "../onnx/handle.ts";
import { type Ort, pointerIn, pointerSlot } from "../onnx/ort.ts";
import { cString, type Pointer, pointerArray } from "../onnx/ort_api.ts";
import type { OrtSession } from "../onnx/session.ts";
import {
  bytesPerElement,
  checkCopy,
  checkRange,
  codeOfDtype,
  elementCount,
  type HostTensor,
  hostTensor,
  OrtTensor,
} from "../onnx/tensor.ts";
import { formatBytes } from "../../util/bytes.ts";
import type { DeviceFailures } from "./failures.ts";

/** Kernels write so many bytes at a time, past a tensor's end where it comes before. */
const WRITTEN_BYTES = 16;

/** Larger tensors are looked at when they are made. */
const CHECKED_BYTES = 2 ** 20;

const [DEVICE_ALLOCATOR, MEMORY_TYPE_DEFAULT] = [0, 0];

/** ONNX Runtime's name of a device's memory, and which of the devices has it. */
export interface MemoryPlace {
  readonly name: string;
  readonly index: number;
}

/** A tensor in device memory, or a view over the first elements of one. */
export class DeviceTensor extends OrtTensor {
  readonly data = undefined;
  readonly handle: Handle;
  readonly #memory: DeviceMemory;

  constructor(memory: DeviceMemory, dtype: DType, shape: readonly number[], handle: Handle) {
    super(dtype, shape);
    this.#memory = memory;
    this.handle = handle;
  }

  /** A view over its first elements. @throws {RangeError} where it has fewer */
  view(shape: readonly number[]): DeviceTensor {
    return this.#memory.view(this, shape);
  }
}

export class DeviceMemory {
  readonly #ort: Ort;
  readonly #description: Handle;
  readonly #allocator: Handle;
  readonly #failures: DeviceFailures;

  /** Within the queue. `session`: some session on the device; it stays while its tensors do. */
  constructor(
    ort: Ort,
    session: OrtSession,
    { memory, failures }: { readonly memory: MemoryPlace; readonly failures: DeviceFailures },
  ) {
    this.#ort = ort;
    this.#failures = failures;
    const { api } = ort;
    const name = cString(memory.name);
    const [kind, id, type] = [DEVICE_ALLOCATOR, memory.index, MEMORY_TYPE_DEFAULT];
    this.#description = ort.handle(
      "memory description",
      (out) => api.CreateMemoryInfo(name, kind, id, type, out),
      api.ReleaseMemoryInfo,
    );
    const allocator = ort.made(
      "allocator",
      (out) => api.CreateAllocator(session.handle.pointer, this.#description.pointer, out),
    );
    this.#allocator = ort.ownOnDevice(allocator, api.ReleaseAllocator, [session.handle]);
  }

  /**
   * Within the queue. A tensor that holds whatever a former one left; a large one is written and read at
   * its beginning, since a buffer without memory is told at its use alone.
   * @throws {DeviceFailedError} where there is no such memory left
   */
  async allocate(dtype: DType, shape: readonly number[]): Promise<DeviceTensor> {
    const tensor = this.#allocate(dtype, shape);
    if (tensor.byteLength < CHECKED_BYTES) return tensor;
    using start = tensor.view([WRITTEN_BYTES / bytesPerElement(dtype)]);
    if (await this.#keeps(start)) return tensor;
    tensor.release();
    throw this.#failures.fail(
      `it has no memory for ${
        formatBytes(tensor.byteLength)
      } more (lower --kv-memory, --max-batch ` +
        "or --lane-memory)",
    );
  }

  /** Whether it holds what is written to it. */
  async #keeps(tensor: DeviceTensor): Promise<boolean> {
    const { dtype, shape } = tensor;
    using written = hostTensor(this.#ort, dtype, shape);
    using read = hostTensor(this.#ort, dtype, shape);
    const bytes = ({ data }: HostTensor) =>
      new Uint8Array(data.buffer, data.byteOffset, WRITTEN_BYTES);
    bytes(written).fill(1);
    await this.copy([{ from: written, to: tensor }]);
    await this.copy([{ from: tensor, to: read }]);
    return bytes(read).every((byte) => byte === 1);
  }

  #allocate(dtype: DType, shape: readonly number[]): DeviceTensor {
    const { api } = this.#ort;
    elementCount(shape);
    const sizes = new BigUint64Array(shape.map(BigInt));
    const rank = BigInt(shape.length);
    const value = this.#ort.made(
      `tensor of shape [${shape}]`,
      (out) =>
        api.CreateTensorAsOrtValue(this.#allocator.pointer, sizes, rank, codeOfDtype(dtype), out),
    );
    const handle = this.#ort.ownOnDevice(value, api.ReleaseValue, [this.#allocator]);
    return new DeviceTensor(this, dtype, shape, handle);
  }

  /** Nothing of this reaches the device. */
  view(source: DeviceTensor, shape: readonly number[]): DeviceTensor {
    const { api } = this.#ort;
    const count = elementCount(shape);
    checkRange("view", source, 0, count);
    const { dtype, handle } = source;
    const sizes = new BigUint64Array(shape.map(BigInt));
    const bytes = count * bytesPerElement(dtype);
    if (bytes % WRITTEN_BYTES !== 0 && bytes !== source.byteLength) {
      throw new RangeError(
        `Cannot view ${bytes} bytes of device memory, of which ${source.byteLength} are there: ` +
          `kernels write ${WRITTEN_BYTES} at a time, so that others would change too`,
      );
    }
    const buffer = this.#bufferOf(handle.pointer);
    const value = this.#ort.made("view", (out) =>
      api.CreateTensorAt(
        ...[this.#description.pointer, buffer, BigInt(bytes), sizes] as const,
        ...[BigInt(shape.length), codeOfDtype(dtype), out] as const,
      ));
    return new DeviceTensor(this, dtype, shape, this.#ort.own(value, api.ReleaseValue, [handle]));
  }

  /** Within the queue. One call off the event loop for each direction. */
  async copy(copies: readonly Copy[]): Promise<void> {
    copies.forEach(checkCopy);
    const memory = ({ data }: Tensor) => data === undefined ? "device" : "host";
    const ways = Map.groupBy(copies, ({ from, to }) => `${memory(from)} to ${memory(to)}`);
    for (const some of ways.values()) await this.#copyOneWay(some);
  }

  async #copyOneWay(copies: readonly Copy[]): Promise<void> {
    const { api, env } = this.#ort;
    const from = pointerArray(copies.map(({ from }) => valueOf(from).pointer));
    const to = pointerArray(copies.map(({ to }) => valueOf(to).pointer));
    const status = await api.CopyTensorsAsync(env.pointer, from, to, null, BigInt(from.length));
    this.#ort.check(status, `copy ${to.length} tensors`);
  }

  release(): void {
    this.#allocator.release();
    this.#description.release();
  }

  #bufferOf(value: Pointer): Pointer {
    const out = pointerSlot();
    this.#ort.check(this.#ort.api.GetTensorMutableData(value, out), "find a tensor's buffer");
    return pointerIn(out, "buffer");
  }
}

/** Keeps the tensors of copies until `copy` is done. @throws {TypeError} for another device's. */
export function heldBy(copies: readonly Copy[]): readonly Counted[] {
  return copies.flatMap(({ from, to }) => [valueOf(from), valueOf(to)]);
}

function valueOf(tensor: Tensor): Handle {
  if (!(tensor instanceof OrtTensor)) {
    throw new TypeError("Cannot copy: a tensor was made by another device");
  }
  return tensor.handle;
}
