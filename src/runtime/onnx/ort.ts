/**
 * ONNX Runtime as an environment: the opened library, its status codes turned into `RuntimeError`,
 * the CPU memory description and the default allocator.
 */

import { RunThread } from "./run_thread.ts";
import { RuntimeError } from "../device.ts";
import { type CallQueue, Turns } from "./call_queue.ts";
import { type Counted, Handle } from "./handle.ts";
import { type Buffer, cString, type OrtApi, type Pointer, readCString } from "./ort_api.ts";
import type { OrtLibrary, Status } from "./ort_api.ts";

/** `OrtErrorCode`, in order. */
const CODES = [
  "OK",
  "FAIL",
  "INVALID_ARGUMENT",
  "NO_SUCHFILE",
  "NO_MODEL",
  "ENGINE_ERROR",
  "RUNTIME_EXCEPTION",
  "INVALID_PROTOBUF",
  "MODEL_LOADED",
  "NOT_IMPLEMENTED",
  "INVALID_GRAPH",
  "EP_FAIL",
  "MODEL_LOAD_CANCELED",
  "MODEL_REQUIRES_COMPILATION",
  "NOT_FOUND",
] as const;

/** `ORT_LOGGING_LEVEL_FATAL`: every error comes back as a status, so stderr stays clean. */
export const LOG_FATAL = 4;

const DEVICE_ALLOCATOR = 0;
const ARENA_ALLOCATOR = 1;
const MEMORY_TYPE_DEFAULT = 0;

/** One `OrtEnv` on an opened library. Lives while any handle made in it does. */
export class Ort {
  readonly api: OrtApi;
  readonly library: OrtLibrary;
  /** The `OrtEnv`; releasing it is the last thing that happens before the library closes. */
  readonly env: Handle;
  /** `OrtMemoryInfo` of ordinary host memory. */
  readonly cpuMemory: Handle;
  /** Where sessions run. */
  readonly thread = new RunThread();
  /**
   * Through which every call goes that reaches the device: to compile, run, copy, allocate, free.
   * Undefined where such calls may overlap.
   */
  readonly queue: CallQueue | undefined;
  /** Sessions being compiled, by how their attention computes. */
  readonly compiles = new Turns(chooseAttention);
  readonly #explain: (error: RuntimeError) => Error;
  readonly #allocator: Pointer;
  #live = 0;

  /** @param explain what a failure is thrown as; default: as it is */
  constructor(
    library: OrtLibrary,
    queue?: CallQueue,
    explain: (error: RuntimeError) => Error = (error) => error,
  ) {
    this.library = library;
    this.queue = queue;
    this.#explain = explain;
    this.api = library.api;
    const { api } = this;
    this.env = new Handle(
      this.made("environment", (out) => api.CreateEnv(LOG_FATAL, cString("lembas"), out)),
      (env) => {
        api.ReleaseEnv(env);
        library.close();
      },
    );
    this.cpuMemory = this.handle(
      "memory description",
      (out) => api.CreateCpuMemoryInfo(DEVICE_ALLOCATOR, MEMORY_TYPE_DEFAULT, out),
      api.ReleaseMemoryInfo,
    );
    this.#allocator = this.made("allocator", (out) => api.GetAllocatorWithDefaultOptions(out));
    this.#shareArena();
  }

  /**
   * Makes all sessions share one arena for what they need while they run. Runs alternate, and an
   * arena of each session's own would keep the most memory that the session ever held.
   */
  #shareArena(): void {
    const { api } = this;
    const [unlimited, asRequested, byDefault] = [0n, 1, -1];
    const config = this.made(
      "arena's settings",
      (out) => api.CreateArenaCfg(unlimited, asRequested, byDefault, byDefault, out),
    );
    const memory = this.made(
      "memory description",
      (out) => api.CreateCpuMemoryInfo(ARENA_ALLOCATOR, MEMORY_TYPE_DEFAULT, out),
    );
    const status = api.CreateAndRegisterAllocator(this.env.pointer, memory, config);
    api.ReleaseMemoryInfo(memory);
    api.ReleaseArenaCfg(config);
    this.check(status, "share an arena between sessions");
  }

  /** @throws {RuntimeError | DeviceFailedError} where `status` is a failure, which it frees. */
  check(status: Status, action: string): void {
    const error = this.error(status, action);
    if (error !== undefined) throw error;
  }

  /** The failure that a status describes, and frees it; undefined on success. */
  error(status: Status, action: string): Error | undefined {
    if (status === null) return undefined;
    const code = CODES[this.api.GetErrorCode(status)] ?? "FAIL";
    const message = readCString(this.api.GetErrorMessage(status));
    this.api.ReleaseStatus(status);
    return this.#explain(new RuntimeError(`Cannot ${action}: ${cleanMessage(message)}`, code));
  }

  /** The object that a C function creates through its last parameter. */
  made(what: string, create: (out: Buffer) => Status): Pointer {
    const out = pointerSlot();
    this.check(create(out), `create ${what}`);
    return pointerIn(out, what);
  }

  /** Like `made`, owned by a handle that keeps the environment alive. */
  handle(
    what: string,
    create: (out: Buffer) => Status,
    free: (pointer: Pointer) => void,
    needs: readonly Counted[] = [],
  ): Handle {
    return this.own(this.made(what, create), free, needs);
  }

  /** Owns an object that was made elsewhere; keeps the environment alive. */
  own(
    pointer: Pointer,
    free: (pointer: Pointer) => void,
    needs: readonly Counted[] = [],
  ): Handle {
    this.#live++;
    const freed = (pointer: Pointer) => {
      this.#live--;
      free(pointer);
    };
    return new Handle(pointer, freed, [this.env, ...needs]);
  }

  /**
   * Like `own`, for what lies on the device: freed in the queue, and until then what it needs stays.
   */
  ownOnDevice(
    pointer: Pointer,
    free: (pointer: Pointer) => void | Promise<void>,
    needs: readonly Counted[] = [],
  ): Handle {
    const { queue } = this;
    if (queue === undefined) return this.own(pointer, (pointer) => void free(pointer), needs);
    const held = [this.env, ...needs];
    this.#live++;
    const freeInTurn = async (pointer: Pointer) => {
      for (const need of held) need.retain();
      await queue.run(() => free(pointer));
      this.#live--;
      for (const need of held) need.drop();
    };
    return new Handle(pointer, (pointer) => void freeInTurn(pointer), held);
  }

  /** Native objects that exist. */
  get live(): number {
    return this.#live;
  }

  /** A number that a C function writes through its last parameter. */
  size(what: string, read: (out: Buffer) => Status): number {
    const out = pointerSlot();
    this.check(read(out), `read ${what}`);
    return Number(out[0]);
  }

  /** A string that a C function allocates with the default allocator; frees it. */
  text(what: string, read: (allocator: Pointer, out: Buffer) => Status): string {
    const pointer = this.made(what, (out) => read(this.#allocator, out));
    const text = readCString(pointer);
    this.check(this.api.AllocatorFree(this.#allocator, pointer), `free ${what}`);
    return text;
  }

  /** Gives up the environment; it ends when the last object made in it does. */
  release(): void {
    this.thread.release();
    this.cpuMemory.release();
    this.env.release();
  }
}

/** How a session's attention kernels compute: in blocks, or with whole rows of scores. */
export type Attention = "flash" | "direct";

const NO_FLASH = "ORT_GQA_DISABLE_FLASH_ATTENTION";

/**
 * ONNX Runtime reads this switch from the environment alone, when a kernel is made, so the variable is
 * set while sessions are compiled and then restored.
 */
function chooseAttention(attention: Attention): () => void {
  if (attention === "flash") return () => {};
  const before = Deno.env.get(NO_FLASH);
  Deno.env.set(NO_FLASH, "1");
  return () => {
    if (before === undefined) Deno.env.delete(NO_FLASH);
    else Deno.env.set(NO_FLASH, before);
  };
}

/** Room for one pointer or `size_t` that native code writes. */
export function pointerSlot(): BigUint64Array<ArrayBuffer> {
  return new BigUint64Array(new ArrayBuffer(8));
}

/** @throws {Error} `internal: …` where native code reported success and wrote null. */
export function pointerIn(slot: BigUint64Array<ArrayBuffer>, what: string): Pointer {
  const pointer = Deno.UnsafePointer.create(slot[0] ?? 0n);
  if (pointer === null) throw new Error(`internal: ONNX Runtime made a null ${what}`);
  return pointer;
}

/** One line without the source locations and C++ signatures of ONNX Runtime's own build. */
function cleanMessage(message: string): string {
  const [head = "", ...rest] = message.split(/\S*\/onnxruntime\/\S+:\d+ /);
  return [head, ...rest.map(withoutSignature)].join("").replace(/\s+/g, " ").trim();
}

/** The text after the C++ function signature that it starts with. */
function withoutSignature(text: string): string {
  let depth = 0;
  for (let i = text.indexOf("("); i >= 0 && i < text.length; i++) {
    if (text[i] === "(") depth++;
    if (text[i] === ")" && --depth === 0) return text.slice(i + 1).replace(/^ const /, "");
  }
  return text;
}
