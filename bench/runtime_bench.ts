/**
 * Micro-benches of the runtime: what a run costs by itself, what a node costs, and the LoTR product
 * of a batch whose rows all have their own core. Run with `deno bench -A bench/`.
 */
import { OnnxWriter } from "../src/graph/lowering/onnx.ts";
import type { Device, Tensor } from "../src/runtime/device.ts";
import { openDevice } from "../src/runtime/open.ts";

const device = openDevice("cpu");

/** A chain of `length` additions over eight numbers. */
function chain(length: number): Uint8Array {
  const writer = new OnnxWriter();
  let value = writer.input("x", "float32", [8]);
  const one = writer.constant("one", "float32", [8], new Float32Array(8).fill(1));
  for (let i = 0; i < length; i++) {
    value = writer.node("Add", [value, one], i === length - 1 ? "y" : `v${i}`);
  }
  writer.output("y", "float32", [8]);
  return writer.finish("chain");
}

/** 30 layers of `u · G`, a core per row: [rows, 1, rank] × [rows, rank, 2 × rank]. */
function lotrProducts(rows: number, rank: number, layers = 30): Uint8Array {
  const writer = new OnnxWriter();
  const u = writer.input("u", "float32", [rows, 1, rank]);
  for (let layer = 0; layer < layers; layer++) {
    const core = writer.input(`g${layer}`, "float32", [rows, rank, 2 * rank]);
    writer.node("MatMul", [u, core], `v${layer}`);
    writer.output(`v${layer}`, "float32", [rows, 1, 2 * rank]);
  }
  return writer.finish("lotr");
}

function tensors(on: Device, shapes: Readonly<Record<string, number[]>>): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [name, on.tensor("float32", shape)]),
  );
}

for (const length of [1, 500]) {
  const session = await device.session(chain(length), { threads: 1, optimization: "none" });
  const binding = session.bind(tensors(device, { x: [8] }), tensors(device, { y: [8] }));
  const nodes = length === 1 ? "1 node" : `${length} nodes`;
  Deno.bench(`run ${nodes} on the calling thread`, { group: "run" }, () => binding.runSync());
  Deno.bench(`run ${nodes} off the event loop`, { group: "run" }, async () => {
    await binding.run();
  });
}

const small = await device.session(chain(1), { threads: 1 });
Deno.bench("bind and release", { group: "bind" }, () => {
  using x = device.tensor("float32", [8]);
  using y = device.tensor("float32", [8]);
  using binding = small.bind({ x }, { y });
  binding.runSync();
});
Deno.bench("make and release a tensor", { group: "bind" }, () => {
  device.tensor("float32", [8]).release();
});

for (const rank of [16, 32]) {
  for (const rows of [1, 16, 32]) {
    const layers = Array.from({ length: 30 }, (_, layer) => layer);
    const session = await device.session(lotrProducts(rows, rank), {});
    const inputs = {
      u: [rows, 1, rank],
      ...Object.fromEntries(layers.map((layer) => [`g${layer}`, [rows, rank, 2 * rank]])),
    };
    const outputs = Object.fromEntries(layers.map((layer) => [`v${layer}`, [rows, 1, 2 * rank]]));
    const binding = session.bind(tensors(device, inputs), tensors(device, outputs));
    Deno.bench(`30 core products, ${rows} rows, rank ${rank}`, { group: "cores" }, () => {
      binding.runSync();
    });
  }
}
