/** What `--dtype auto` stands for, by the types of a file's linears and the rows that run at once. */
import { assertEquals } from "@std/assert";
import type { WeightInfo, WeightSource, WeightType } from "../../src/checkpoint/checkpoint.ts";
import { chooseDtype, deviceDtype, linearTypes } from "../../src/executor/precision.ts";

/** A file with an embedding, a norm, and linears of these types and numbers of rows. */
function file(linears: Readonly<Partial<Record<WeightType, number>>>): WeightSource {
  const infos = new Map<string, WeightInfo>([
    ["model.embed_tokens.weight", { shape: [10_000, 32], type: "BF16" }],
    ["model.norm.weight", { shape: [1_000_000], type: "F32" }],
  ]);
  for (const [type, rows] of Object.entries(linears)) {
    infos.set(`${type}.weight`, { shape: [rows, 32], type: type as WeightType });
  }
  const none = () => {
    throw new Error("nothing is read to choose");
  };
  return {
    names: () => [...infos.keys()],
    has: (name) => infos.has(name),
    info: (name) => infos.get(name) ?? none(),
    read: none,
    readRaw: none,
    blocks: none,
  };
}

Deno.test("types are those of the linears, with most numbers first", () => {
  assertEquals(linearTypes(file({ Q6_K: 20, Q4_K: 30, F16: 1 })), ["Q4_K", "Q6_K", "F16"]);
});

Deno.test("auto serves a 4-bit file's own blocks where one row runs, else int8", () => {
  const weights = file({ Q6_K: 20, Q4_K: 30 });
  assertEquals(chooseDtype("auto", { weights }, 1), "file");
  assertEquals(chooseDtype("auto", { weights }, 2), "int8");
});

Deno.test("auto serves a 4-bit file's own blocks where int8 would crowd the memory", () => {
  const weights = file({ Q4_K: 30 });
  assertEquals(chooseDtype("auto", { weights }, 16, 4 * countOf(weights)), "int8");
  assertEquals(chooseDtype("auto", { weights }, 16, 4 * countOf(weights) - 1), "file");
});

Deno.test("auto serves any other file in int8, whatever runs", () => {
  for (const type of ["BF16", "F16", "F32", "Q8_0", "Q5_0"] as const) {
    const weights = file({ [type]: 30, Q4_0: 10 });
    for (const rows of [1, 32]) assertEquals(chooseDtype("auto", { weights }, rows), "int8", type);
  }
});

Deno.test("auto on a device serves a file's own blocks where most of it has some, else int8", () => {
  for (const type of ["Q4_0", "Q4_K", "AWQ", "GPTQ", "Q8_0"] as const) {
    assertEquals(deviceDtype("auto", { weights: file({ [type]: 30, F16: 20 }) }), "file", type);
  }
  for (const type of ["BF16", "F16", "F32", "Q6_K"] as const) {
    assertEquals(deviceDtype("auto", { weights: file({ [type]: 30, Q4_0: 10 }) }), "int8", type);
  }
});

Deno.test("what is asked for by name is served", () => {
  const weights = file({ Q4_K: 30 });
  for (const dtype of ["int8", "int4", "file", "fp32"] as const) {
    assertEquals(chooseDtype(dtype, { weights }, 1), dtype);
    assertEquals(deviceDtype(dtype, { weights }), dtype);
  }
});

function countOf({ names, info }: Pick<WeightSource, "names" | "info">): number {
  return names().reduce((sum, name) => sum + info(name).shape.reduce((a, b) => a * b, 1), 0);
}
