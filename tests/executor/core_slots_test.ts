/** Cores in their slots, as the graph reads them. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { CoreSlots } from "../../src/executor/core_slots.ts";
import type { ResidentCore } from "../../src/executor/model.ts";
import { type ModuleName, MODULES } from "../../src/models/hook.ts";
import { DEVICE } from "../graph/device.ts";

const LAYERS = 2;
const RANK = 3;
const SLOTS = 4;

/** A core whose numbers name layer, module, row and column: `seed` · 10⁴ + digits. */
function core(modules: readonly ModuleName[], seed: number): ResidentCore {
  const width = modules.length * RANK;
  const data = Float32Array.from({ length: LAYERS * RANK * width }, (_, at) => {
    const [layer, row] = [Math.floor(at / (RANK * width)), Math.floor(at / width) % RANK];
    return mark(seed, layer, Math.floor(at % width / RANK), row, at % RANK);
  });
  return { digest: `core ${seed}`, data };
}

function mark(seed: number, layer: number, module: number, row: number, column: number): number {
  return seed * 10_000 + layer * 1000 + module * 100 + row * 10 + column;
}

/** Checks what every slot holds: a core's seed, or 0 for the base. */
function assertHeld(
  slots: CoreSlots,
  modules: readonly ModuleName[],
  held: readonly number[],
): void {
  const sites: Readonly<Record<string, readonly ModuleName[]>> = {
    "attn_in": ["q_proj", "k_proj", "v_proj"],
    "attn_out": ["o_proj"],
    "mlp_in": ["gate_proj", "up_proj"],
    "mlp_mid": ["down_proj"],
  };
  for (const { layer, site, tensor } of slots.views(0, SLOTS)) {
    const adapted = sites[site].filter((module) => modules.includes(module));
    const expected = held.flatMap((seed) =>
      Array.from(
        { length: RANK },
        (_, row) =>
          adapted.flatMap((module) =>
            Array.from({ length: RANK }, (_, column) =>
              seed === 0 ? 0 : mark(seed, layer, modules.indexOf(module), row, column))
          ),
      ).flat()
    );
    assertEquals(tensor.shape, [SLOTS, RANK, adapted.length * RANK]);
    assertEquals(tensor.data, Float32Array.from(expected));
  }
}

for (const modules of [["q_proj", "v_proj"], ["k_proj", "o_proj", "up_proj"], MODULES] as const) {
  Deno.test(`cores on ${modules.join(", ")} lie by site and layer, row by row`, () => {
    const device = DEVICE;
    const slots = new CoreSlots(device, { rank: RANK, modules }, LAYERS, SLOTS);
    assertHeld(slots, modules, [0, 0, 0, 0]);
    slots.set(1, core(modules, 1));
    slots.set(3, core(modules, 2));
    assertHeld(slots, modules, [0, 1, 0, 2]);
    slots.set(1, core(modules, 3));
    slots.move(3, 0);
    assertHeld(slots, modules, [2, 3, 0, 2]);
    slots.set(3, undefined);
    slots.move(2, 1);
    assertHeld(slots, modules, [2, 0, 0, 0]);
    slots.release();
  });
}

Deno.test("views over some slots are parts of the same memory, made once", () => {
  const device = DEVICE;
  const modules = ["q_proj"] as const;
  const slots = new CoreSlots(device, { rank: RANK, modules }, LAYERS, SLOTS);
  const views = slots.views(2, 1);
  slots.set(2, core(modules, 5));
  assert(views === slots.views(2, 1));
  assertEquals(views.map(({ layer, site }) => [layer, site]), [[0, "attn_in"], [1, "attn_in"]]);
  assertEquals(views[1].tensor.data?.[0], mark(5, 1, 0, 0, 0));
  assertEquals(views[1].tensor.shape, [1, RANK, RANK]);
  slots.release();
});

Deno.test("a core of another size is refused, and the slot keeps what it had", () => {
  const device = DEVICE;
  const modules = ["q_proj", "v_proj"] as const;
  const slots = new CoreSlots(device, { rank: RANK, modules }, LAYERS, SLOTS);
  slots.set(0, core(modules, 1));
  const short = { digest: "short", data: new Float32Array(5) };
  assertThrows(() => slots.set(0, short), RangeError, "5 numbers, this factor set's cores have 36");
  assertHeld(slots, modules, [1, 0, 0, 0]);
  slots.set(0, core(modules, 1));
  assertHeld(slots, modules, [1, 0, 0, 0]);
  slots.release();
});

Deno.test("without a factor set there is nothing to hold", () => {
  const device = DEVICE;
  const slots = new CoreSlots(device, undefined, LAYERS, SLOTS);
  assertEquals(slots.views(0, SLOTS), []);
  slots.set(0, undefined);
  slots.move(0, 1);
  slots.release();
});
