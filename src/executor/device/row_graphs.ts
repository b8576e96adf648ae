/** Small graphs that move keys and values of one slot within a device's own memory, and out of it and in. */
import { OnnxWriter } from "../../graph/lowering/onnx.ts";
import type { KvShape } from "../kv_cache.ts";

/**
 * Over `cache.i` [slots, KV, capacity, D], each layer's keys and values in turn:
 *
 * - `take`: `slot` [1] → `row.i` [1, KV, capacity, D], a copy.
 * - `place`: `slot` [1, 1], `row.i` → `written.i`, the cache with that row in place.
 * - `save`: `from` [2], a slot and a position, and `to` [2], those behind the last → `block` [2 × layers,
 *   KV, length, D].
 * - `load`: `block`, `places` [KV × length, 3], the slot, head and position of each → `written.i`, the
 *   cache with these in place.
 */
export type RowGraph = "take" | "place" | "save" | "load";

/** The serialised model. */
export function rowGraph(kind: RowGraph, shape: KvShape): Uint8Array {
  const { layers, kvHeads, capacity, headDim, dtype = "float32" } = shape;
  const writer = new OnnxWriter();
  const row = [kvHeads, capacity, headDim];
  const block = [2 * layers, kvHeads, "length", headDim];
  const written = (i: number) => writer.output(`written.${i}`, dtype, ["slots", ...row]);
  const each: Readonly<Record<RowGraph, (cache: string, i: number) => void>> = {
    take(cache, i) {
      writer.node("Gather", [cache, "slot"], `row.${i}`);
      writer.output(`row.${i}`, dtype, [1, ...row]);
    },
    place(cache, i) {
      const from = writer.input(`row.${i}`, dtype, [1, ...row]);
      writer.node("ScatterND", [cache, "slot", from], `written.${i}`);
      written(i);
    },
    save(cache, i) {
      const axes = writer.constant("axes", "int64", [2], BigInt64Array.of(0n, 2n));
      writer.node("Slice", [cache, "from", "to", axes], `part.${i}`);
    },
    load(cache, i) {
      const index = writer.constant(`index.${i}`, "int32", [], Int32Array.of(i));
      const flat = writer.constant("flat", "int64", [2], BigInt64Array.of(-1n, BigInt(headDim)));
      writer.node("Gather", ["block", index], `part.${i}`);
      writer.node("Reshape", [`part.${i}`, flat], `rows.${i}`);
      writer.node("ScatterND", [cache, "places", `rows.${i}`], `written.${i}`);
      written(i);
    },
  };
  if (kind === "take") writer.input("slot", "int64", [1]);
  if (kind === "place") writer.input("slot", "int64", [1, 1]);
  if (kind === "save") { for (const name of ["from", "to"]) writer.input(name, "int64", [2]); }
  if (kind === "load") {
    writer.input("block", dtype, block);
    writer.input("places", "int64", ["places", 3]);
  }
  for (let i = 0; i < layers * 2; i++) {
    each[kind](writer.input(`cache.${i}`, dtype, ["slots", ...row]), i);
  }
  if (kind === "save") {
    const parts = Array.from({ length: layers * 2 }, (_, i) => `part.${i}`);
    writer.node("Concat", parts, "block", { attributes: { axis: 0 } });
    writer.output("block", dtype, block);
  }
  return writer.finish(kind);
}
