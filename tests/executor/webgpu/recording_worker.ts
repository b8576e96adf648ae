// deno-lint-ignore-file no-console -- what a program prints is its result
/** Prints what lanes on WebGPU say of decode steps that they do not record. */
import { openDevice } from "../../../src/runtime/open.ts";
import { Tiny } from "../../engine/tiny.ts";

using device = openDevice("webgpu");
const told: Record<string, readonly string[]> = {};
for (
  const [name, rank] of [["qwen3", undefined], ["qwen3", 4], ["qwen3", 3], ["mistral", 4]] as const
) {
  const warnings: string[] = [];
  using tiny = await Tiny.open(name, { device, onWarning: (text) => warnings.push(text) });
  const factors = rank === undefined ? undefined : tiny.factors(rank, ["q_proj"]);
  await tiny.base.lane(factors);
  const digest = factors?.digest.slice(0, 12) ?? "none";
  told[`${name} ${rank ?? "alone"}`] = warnings
    .filter((text) => text.includes("recorded"))
    .map((text) => text.replace(digest, "DIGEST"));
}
console.log(JSON.stringify(told));
