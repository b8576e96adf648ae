/**
 * A device with memory of its own as a `Device`: one of ONNX Runtime's providers. Trap: WebGPU's native
 * calls may not overlap, whatever they do, or the process ends, so all of them go through one queue, and
 * freeing takes effect later. Tensors in host memory work as on the CPU and cross over at each run.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
} from "onnx-buf";
import { CpuDevice } from "../cpu.ts";
import type {
  Binding,
  Copy,
  Device,
  DType,
  SessionOptions,
  Tensor,
  TypedArray,
  TypedArrayOf,
} from "../device.ts";
import type { CallQueue } from "../onnx/call_queue.ts";
import type { Ort } from "../onnx/ort.ts";
import { createSession, type OrtSession, type Provider } from "../onnx/session.ts";
import { bytesPerElement, codeOfDtype, elementCount } from "../onnx/tensor.ts";
import { formatBytes } from "../../util/bytes.ts";
import type { DeviceFailedError } from "../../util/errors.ts";
import { DeviceMemory, DeviceTensor, heldBy, type MemoryPlace } from "./device_memory.ts";
import type { DeviceFailures } from "./failures.ts";

/** Threads for the few nodes that compute shapes, which stay on the CPU. */
const THREADS = 1;

/** Which of a provider's devices it is. */
export interface ProviderPlace {
  readonly name: "webgpu" | "cuda";
  /** Through which all native calls go; `ort` has it, too. */
  readonly queue: CallQueue;
  readonly failures: DeviceFailures;
  readonly provider: Provider;
  /** Provider options of sessions whose runs are recorded, besides. */
  readonly capturing: Provider["options"];
  readonly memory: MemoryPlace;
  readonly adapter: string | undefined;
  /** Bytes of the largest tensor. */
  readonly largestTensor: number;
}

/** Make it with `openDevice("webgpu")` or `openDevice("cuda")`. */
export class ProviderDevice implements Device {
  readonly name: "webgpu" | "cuda";
  readonly #ort: Ort;
  readonly #queue: CallQueue;
  readonly #place: ProviderPlace;
  readonly adapter: string | undefined;
  readonly largestTensor: number;
  /** What it does with host memory. */
  readonly #host: CpuDevice;
  #memory: Promise<DeviceMemory> | undefined;
  /** What stays as long as the device. */
  readonly #held = new DisposableStack();
  #inPlace: Binding | undefined;
  #checked: Promise<void> = Promise.resolve();
  #released = false;

  /** Takes `ort` over. */
  constructor(ort: Ort, place: ProviderPlace) {
    this.#ort = ort;
    this.#place = place;
    this.name = place.name;
    this.#queue = place.queue;
    this.adapter = place.adapter;
    this.largestTensor = place.largestTensor;
    this.#host = new CpuDevice(ort);
  }

  tensor<T extends DType>(dtype: T, shape: readonly number[], data?: TypedArrayOf<T>): Tensor {
    return this.#host.tensor(dtype, shape, data);
  }

  async allocate(dtype: DType, shape: readonly number[]): Promise<Tensor> {
    const memory = await this.#open("allocate");
    const bytes = elementCount(shape) * bytesPerElement(dtype);
    if (bytes > this.largestTensor) {
      throw new RangeError(
        `Cannot allocate ${formatBytes(bytes)} on the device: one tensor may have at most ` +
          formatBytes(this.largestTensor),
      );
    }
    return await this.#queue.run(() => memory.allocate(dtype, shape));
  }

  async copy(copies: readonly Copy[]): Promise<void> {
    const held = heldBy(copies);
    for (const handle of held) handle.retain();
    try {
      const memory = await this.#open("copy");
      await this.#queue.run(() => memory.copy(copies));
    } finally {
      for (const handle of held) handle.drop();
    }
  }

  async upload(to: Tensor, data: TypedArray): Promise<void> {
    using from = this.tensor(to.dtype, to.shape, data as never);
    await this.copy([{ from, to }]);
  }

  async download(from: Tensor): Promise<TypedArray> {
    using to = this.tensor(from.dtype, from.shape);
    await this.copy([{ from, to }]);
    return to.data as TypedArray;
  }

  view(source: Tensor, offset: number, shape: readonly number[]): Tensor {
    if (!(source instanceof DeviceTensor)) return this.#host.view(source, offset, shape);
    if (offset === 0) return source.view(shape);
    throw new RangeError(
      `Cannot view device memory from element ${offset} on: a view begins where its tensor does`,
    );
  }

  /** Of device memory nothing is given back but with the whole tensor. */
  discard(tensor: Tensor, offset: number, count: number): void {
    if (tensor.data !== undefined) this.#host.discard(tensor, offset, count);
  }

  /** What was freed before is free once this resolves. */
  async trim(): Promise<void> {
    await this.#queue.run(() => this.#host.trim());
  }

  touchSparsely(tensor: Tensor): void {
    if (tensor.data !== undefined) this.#host.touchSparsely(tensor);
  }

  get failed(): Promise<DeviceFailedError> {
    return this.#place.failures.failed;
  }

  get runtimeVersion(): string {
    return this.#host.runtimeVersion;
  }

  get liveObjects(): number {
    return this.#host.liveObjects;
  }

  async session(model: Uint8Array, options: SessionOptions = {}): Promise<OrtSession> {
    await this.#open("create a session");
    const { provider: usual, capturing } = this.#place;
    const provider = options.capture === true
      ? { ...usual, options: { ...usual.options, ...capturing } }
      : usual;
    const given = { threads: THREADS, ...options, provider };
    const session = await createSession(this.#ort, model, given);
    try {
      await this.#checkSound();
      return session;
    } catch (error) {
      session.release();
      throw error;
    }
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    const end = (memory?: DeviceMemory) => {
      this.#held.dispose();
      memory?.release();
      this.#host.release();
    };
    if (this.#memory === undefined) end();
    else this.#memory.then(end, () => end());
  }

  [Symbol.dispose](): void {
    this.release();
  }

  /**
   * The allocator comes beside a session alone, and without any session the device would go: so a
   * tiny one is the first and goes last.
   */
  #open(action: string): Promise<DeviceMemory> {
    if (this.#released) throw new TypeError(`Cannot ${action}: the device was released`);
    return this.#memory ??= this.#openMemory();
  }

  /** Weights that found no memory are told by any run in place. */
  #checkSound(): Promise<void> {
    const check = this.#checked.then(() => this.#inPlace?.run());
    this.#checked = check.catch(() => {});
    return check;
  }

  async #openMemory(): Promise<DeviceMemory> {
    const options = { threads: THREADS, provider: this.#place.provider };
    const session = this.#held.use(await createSession(this.#ort, smallestModel(), options));
    const open = () => new DeviceMemory(this.#ort, session, this.#place);
    const memory = await this.#queue.run(open);
    using x = await this.#queue.run(() => memory.allocate("float32", [4]));
    this.#inPlace = this.#held.use(session.bind({ x }, { y: x }));
    return memory;
  }
}

/** y = x + x. */
function smallestModel(): Uint8Array {
  const tensor = create(TypeProto_TensorSchema, { elemType: codeOfDtype("float32") });
  const type = create(TypeProtoSchema, { value: { case: "tensorType", value: tensor } });
  const node = create(NodeProtoSchema, { opType: "Add", input: ["x", "x"], output: ["y"] });
  const graph = create(GraphProtoSchema, {
    name: "smallest",
    node: [node],
    input: [create(ValueInfoProtoSchema, { name: "x", type })],
    output: [create(ValueInfoProtoSchema, { name: "y", type })],
  });
  const opset = create(OperatorSetIdProtoSchema, { domain: "", version: 21n });
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, { irVersion: 10n, graph, opsetImport: [opset] }),
  );
}
