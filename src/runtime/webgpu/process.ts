/**
 * What a process has of WebGPU, once for all that use it: the queue of native calls, the failures of the
 * device, and the adapter, which is settled by the first.
 */
import { CallQueue } from "../onnx/call_queue.ts";
import type { Provider } from "../onnx/session.ts";
import type { Adapter } from "../vulkan.ts";
import { DeviceFailures } from "../provider/failures.ts";
import { FIRST_VARIABLE, selectionOf, takenAdapter } from "./selection.ts";

export class WebGpuProcess {
  readonly queue = new CallQueue();
  readonly failures = new DeviceFailures();
  #adapter: Adapter | undefined;
  #index: number | undefined;
  #provider: Provider = { name: "WebGPU", options: {} };
  #settled = false;

  /** Undefined before an adapter was selected, and where the system has no Vulkan. */
  get adapter(): Adapter | undefined {
    return this.#adapter;
  }

  get provider(): Provider {
    return this.#provider;
  }

  /**
   * Settles which of Vulkan's adapters is used, by default the one that WebGPU takes by itself; why it
   * cannot be, in a sentence's end.
   */
  select(adapters: readonly Adapter[], index?: number): string | undefined {
    if (this.#settled) {
      return index === undefined || index === this.#index
        ? undefined
        : `this process uses ${this.#adapter?.name ?? "another adapter"} already`;
    }
    if (index === undefined) this.#adapter = takenAdapter(adapters);
    else {
      const selection = selectionOf(adapters, index);
      if (typeof selection === "string") return selection;
      const { preference: powerPreference, first } = selection;
      Deno.env.set(FIRST_VARIABLE, first);
      this.#provider = { name: "WebGPU", options: { powerPreference } };
      this.#adapter = adapters[index];
    }
    this.#index = index;
    this.#settled = adapters.length > 0;
    return undefined;
  }
}
