/** Prints as JSON what Vulkan finds, and what `--device auto` tries. */
// deno-lint-ignore-file no-console -- its output is what the test reads
import { chooseDevices } from "../../src/runtime/auto.ts";
import { vulkanAdapters } from "../../src/runtime/vulkan.ts";

console.log(JSON.stringify({ adapters: vulkanAdapters(), choices: chooseDevices() }));
