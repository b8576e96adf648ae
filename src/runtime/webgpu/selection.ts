/**
 * Which adapter WebGPU takes. Its provider asks for a kind (fast or frugal) and gets the first of that
 * kind in Vulkan's order, whose beginning the loader takes from the environment, by maker and model.
 * So cards of one model cannot be told apart within a process: it takes the first.
 */
import type { Adapter } from "../vulkan.ts";

/** Kinds in the order in which each preference takes them. */
const ORDERS = {
  "high-performance": ["discrete", "integrated", "virtual", "other", "software"],
  "low-power": ["integrated", "discrete", "virtual", "other", "software"],
} as const satisfies Readonly<Record<string, readonly Adapter["type"][]>>;

type Preference = keyof typeof ORDERS;

/** What has an adapter taken. */
export interface Selection {
  readonly preference: Preference;
  /** What Vulkan's loader is to list first, as it is told: maker and model in hex. */
  readonly first: string;
}

/** The variable that Vulkan's loader reads for it. */
export const FIRST_VARIABLE = "VK_LOADER_DEVICE_SELECT";

/** The adapter that is taken; undefined where there is none. */
export function takenAdapter(
  adapters: readonly Adapter[],
  preference: Preference = "high-performance",
): Adapter | undefined {
  const order: readonly Adapter["type"][] = ORDERS[preference];
  return [...adapters].sort((a, b) => order.indexOf(a.type) - order.indexOf(b.type))[0];
}

/** How to have the adapter of a number taken, or in a sentence's end why that cannot be. */
export function selectionOf(adapters: readonly Adapter[], index: number): Selection | string {
  const wanted = adapters[index];
  if (wanted === undefined) {
    const listed = adapters.map(({ name }, i) => `webgpu:${i} ${name}`).join(", ");
    return `Vulkan lists ${adapters.length === 0 ? "no adapter" : listed}`;
  }
  const isSame = ({ vendor, model }: Adapter) => vendor === wanted.vendor && model === wanted.model;
  const before = adapters.slice(0, index).findIndex(isSame);
  if (before !== -1) {
    return `webgpu:${before} is of the same model (${wanted.name}), and a process takes the first; ` +
      "have it see one card alone, for example in a container";
  }
  const ordered = [wanted, ...adapters.filter((adapter) => adapter !== wanted)];
  const preferences = Object.keys(ORDERS) as Preference[];
  const preference = preferences.find((each) => takenAdapter(ordered, each) === wanted);
  if (preference === undefined) {
    return `it is ${wanted.type}, and WebGPU takes ${takenAdapter(adapters)?.name} before it`;
  }
  const hex = (number: number) => number.toString(16);
  return { preference, first: `${hex(wanted.vendor)}:${hex(wanted.model)}` };
}
