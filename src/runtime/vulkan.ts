/**
 * The graphics devices that Vulkan's loader finds, with what matters for computing (Vulkan 1.1
 * specification; structures are laid out by hand). It makes no device and runs nothing on one.
 */
import { formatBytes } from "../util/bytes.ts";
import { readCString } from "./onnx/ort_api.ts";

/** The loader of Vulkan drivers, through which WebGPU finds graphics devices on Linux. */
export const VULKAN_LIBRARY = "libvulkan.so.1";

const SYMBOLS = {
  vkCreateInstance: { parameters: ["buffer", "pointer", "buffer"], result: "i32" },
  vkDestroyInstance: { parameters: ["pointer", "pointer"], result: "void" },
  vkEnumeratePhysicalDevices: { parameters: ["pointer", "buffer", "buffer"], result: "i32" },
  vkGetPhysicalDeviceProperties2: { parameters: ["pointer", "buffer"], result: "void" },
  vkGetPhysicalDeviceFeatures2: { parameters: ["pointer", "buffer"], result: "void" },
  vkGetPhysicalDeviceMemoryProperties: { parameters: ["pointer", "buffer"], result: "void" },
} as const;
type Vulkan = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** `VkPhysicalDeviceType`, in order. */
const TYPES = ["other", "integrated", "discrete", "virtual", "software"] as const;

export interface Adapter {
  readonly name: string;
  readonly type: typeof TYPES[number];
  /** Bytes of its own memory; of the host's where it has none of its own. */
  readonly memory: number;
  /** Bytes of the largest buffer that kernels can read whole. */
  readonly largest: number;
  /** Whether shaders compute in 16 bits. */
  readonly float16: boolean;
  /** Lanes of a subgroup. */
  readonly lanes: number;
  /** PCI's numbers of the maker and the model. */
  readonly vendor: number;
  readonly model: number;
}

/** Vulkan's adapters; undefined where its loader is not installed. */
export function vulkanAdapters(): readonly Adapter[] | undefined {
  let library: Deno.DynamicLibrary<typeof SYMBOLS>;
  try {
    library = Deno.dlopen(VULKAN_LIBRARY, SYMBOLS);
  } catch {
    return undefined;
  }
  try {
    return adaptersOf(library.symbols);
  } finally {
    library.close();
  }
}

function adaptersOf(vulkan: Vulkan): readonly Adapter[] {
  const instance = createInstance(vulkan);
  if (instance === null) return [];
  try {
    const count = new Struct(4);
    vulkan.vkEnumeratePhysicalDevices(instance, count.bytes, null);
    const devices = new Struct(8 * Math.max(1, count.u32(0)));
    vulkan.vkEnumeratePhysicalDevices(instance, count.bytes, devices.bytes);
    return Array.from({ length: count.u32(0) }, (_, i) => {
      const device = Deno.UnsafePointer.create(devices.u64(8 * i));
      return describe(vulkan, device);
    });
  } finally {
    vulkan.vkDestroyInstance(instance, null);
  }
}

/** An adapter in a few words. */
export function adapterText({ name, type, memory, largest, float16, lanes }: Adapter): string {
  return `${name}, ${type}, ${formatBytes(memory)}, tensors of up to ${formatBytes(largest)}, ` +
    `${float16 ? "float16" : "no float16"}, subgroups of ${lanes}`;
}

/** An instance of Vulkan 1.1; null where there is no driver for one. */
function createInstance(vulkan: Vulkan): Deno.PointerValue {
  const application = new Struct(48).set(44, VERSION_1_1);
  const info = new Struct(64).set(0, INSTANCE_CREATE_INFO).point(24, application);
  const instance = new Struct(8);
  const status = vulkan.vkCreateInstance(info.bytes, null, instance.bytes);
  return status === 0 ? Deno.UnsafePointer.create(instance.u64(0)) : null;
}

const VERSION_1_1 = 1 << 22 | 1 << 12;
/** `VkStructureType`s. */
const INSTANCE_CREATE_INFO = 1;
const FEATURES_2 = 1000059000;
const FLOAT16_FEATURES = 1000082000;
const PROPERTIES_2 = 1000059001;
const SUBGROUP_PROPERTIES = 1000094000;
const MAINTENANCE_3_PROPERTIES = 1000168000;

/** Of `VkPhysicalDeviceProperties`, which begins at 16 within its second form. */
const PROPERTIES = { bytes: 1024, at: 16, vendor: 8, model: 12, type: 16, name: 20, storage: 324 };
const MEMORY = { bytes: 520, heaps: 260, heap: 264, heapBytes: 16, most: 16 };
const DEVICE_LOCAL = 1;

function describe(vulkan: Vulkan, device: Deno.PointerValue): Adapter {
  const allocation = new Struct(32).set(0, MAINTENANCE_3_PROPERTIES);
  const subgroup = new Struct(32).set(0, SUBGROUP_PROPERTIES).point(8, allocation);
  const properties = new Struct(PROPERTIES.bytes).set(0, PROPERTIES_2).point(8, subgroup);
  vulkan.vkGetPhysicalDeviceProperties2(device, properties.bytes);
  const { at, name, type, storage, vendor, model } = PROPERTIES;
  const float16 = new Struct(24).set(0, FLOAT16_FEATURES);
  const features = new Struct(240).set(0, FEATURES_2).point(8, float16);
  vulkan.vkGetPhysicalDeviceFeatures2(device, features.bytes);
  return {
    name: readCString(Deno.UnsafePointer.of(properties.bytes.subarray(at + name))),
    type: TYPES[properties.u32(at + type)] ?? "other",
    memory: memoryOf(vulkan, device),
    largest: Math.min(properties.u32(at + storage), Number(allocation.u64(24))),
    float16: float16.u32(16) === 1,
    lanes: subgroup.u32(16),
    vendor: properties.u32(at + vendor),
    model: properties.u32(at + model),
  };
}

function memoryOf(vulkan: Vulkan, device: Deno.PointerValue): number {
  const memory = new Struct(MEMORY.bytes);
  vulkan.vkGetPhysicalDeviceMemoryProperties(device, memory.bytes);
  const heaps = Array.from({ length: Math.min(MEMORY.most, memory.u32(MEMORY.heaps)) }, (_, i) => {
    const at = MEMORY.heap + MEMORY.heapBytes * i;
    return { bytes: Number(memory.u64(at)), local: (memory.u32(at + 8) & DEVICE_LOCAL) !== 0 };
  });
  return Math.max(0, ...heaps.filter(({ local }) => local).map(({ bytes }) => bytes));
}

/** A C structure, zeroed; it keeps what it points at. */
class Struct {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #held: Struct[] = [];

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  u64(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }

  set(at: number, value: number): this {
    this.#view.setUint32(at, value, true);
    return this;
  }

  point(at: number, to: Struct): this {
    this.#held.push(to);
    const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(to.bytes));
    this.#view.setBigUint64(at, address, true);
    return this;
  }
}
