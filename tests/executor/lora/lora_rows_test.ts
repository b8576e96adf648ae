/**
 * Where rows' LoRAs lie, over long random lives: what a step reads for a token is its row's LoRA, all
 * of it and nothing else.
 */
import { assertEquals, assertLessOrEqual } from "@std/assert";
import { type Adapted, LoraRows, meetingInputs } from "../../../src/executor/lora/lora_rows.ts";
import { modulesAt } from "../../../src/executor/lora/site_pieces.ts";
import { MODULES } from "../../../src/models/hook.ts";
import { inputs } from "../../../src/models/inputs.ts";
import { pieceRange, type ResidentLora } from "../../../src/models/lora.ts";
import type { Tensor } from "../../../src/runtime/device.ts";
import { Tiny } from "../../engine/tiny.ts";
import { seeded } from "../../engine/harness.ts";
import { DEVICE } from "../../graph/device.ts";
import { type RandomLora, randomLora } from "./random_lora.ts";

const SLOTS = 6;
const KINDS: readonly Omit<RandomLora, "seed">[] = [
  { modules: ["q_proj", "v_proj"], rank: 8 },
  { modules: ["v_proj"], rank: 64 },
  { modules: MODULES, rank: 16 },
  { modules: ["o_proj", "down_proj"], rank: 30 },
];

/** By token: digest and index of each piece of A that it meets at a linear, sorted. */
function met(
  tiny: Tiny,
  rows: LoraRows,
  adapted: Adapted,
  tokens: number,
  loras: readonly ResidentLora[],
): string[][] {
  using made = new DisposableStack();
  const views = rows.views(adapted, made);
  const { fill } = meetingInputs(DEVICE, adapted, tokens, made);
  const found = Array.from({ length: tokens }, (): string[] => []);
  adapted.meetings.forEach(({ site, pieces, rows: count, time, each, ...meeting }, m) => {
    const { cells, places } = fill[m];
    meeting.fill(cells, places);
    assertEquals([cells.length, places.length], [pieces * count * time, tokens * each]);
    for (const module of modulesAt(site, adapted.modules)) {
      places.forEach((cell, i) => {
        const token = Math.floor(i / each);
        const piece = Math.floor(cell / (count * time));
        const name = pieceAt(tiny, views, { module, piece }, loras);
        assertEquals(cells[cell], token, "the token is in its cell, of zeros too");
        if (name === undefined) return;
        found[token].push(`${module} ${name}`);
      });
    }
  });
  return found.map((names) => names.sort());
}

/** Which LoRA's piece lies there in every layer, A and B; undefined for zeros. */
function pieceAt(
  { base: { config } }: Tiny,
  views: Readonly<Record<string, Tensor>>,
  { module, piece }: { readonly module: (typeof MODULES)[number]; readonly piece: number },
  loras: readonly ResidentLora[],
): string | undefined {
  const names = Array.from({ length: config.numLayers }, (_, layer) => {
    const parts = [inputs.loraA, inputs.loraB].map((name) => {
      const { data, shape: [, , rows, columns] } = views[name(layer, module)];
      return (data as Float32Array).subarray(piece * rows * columns, (piece + 1) * rows * columns);
    });
    const lying = Float32Array.from([...parts[0], ...parts[1]]);
    if (lying.every((number) => number === 0)) return undefined;
    for (const lora of loras) {
      for (let index = 0; index < 8; index++) {
        const range = pieceRange(config, lora, module, index);
        if (range === undefined) continue;
        const start = range.start + layer * range.stride;
        const own = lora.data.subarray(start, start + lying.length);
        if (own.every((number, i) => number === lying[i])) return `${lora.digest} ${index}`;
      }
    }
    throw new Error(`piece ${piece} of ${module} is nobody's`);
  });
  assertEquals(new Set(names).size, 1, "each layer has the same");
  return names[0];
}

/** What a token of a row should meet. */
function wanted(lora: ResidentLora | undefined): string[] {
  return (lora?.modules ?? []).flatMap(({ module, pieces }) =>
    Array.from({ length: pieces }, (_, i) => `${module} ${lora?.digest} ${i}`)
  ).sort();
}

Deno.test("whatever rows come, move and go, each token meets its own LoRA and no other's", async () => {
  using tiny = await Tiny.open("llama");
  const { config } = tiny.base;
  for (const seed of [1, 2, 3]) {
    const random = seeded(seed);
    const loras = Array.from(
      { length: 8 },
      (_, i) => tiny.base.residentLora(randomLora(config, { ...KINDS[i % KINDS.length], seed: i })),
    );
    const rows = new LoraRows(DEVICE, config, SLOTS);
    rows.open(MODULES);
    let held: (ResidentLora | undefined)[] = [];
    for (let step = 0; step < 60; step++) {
      const draw = random();
      if (draw < 0.45 && held.length < SLOTS) {
        const lora = random() < 0.7 ? loras[Math.floor(random() * loras.length)] : undefined;
        rows.set(held.length, lora);
        held.push(lora);
      } else if (draw < 0.75 && held.length > 0) {
        const slot = Math.floor(random() * held.length);
        const last = held.length - 1;
        if (slot < last) {
          rows.move(last, slot);
          held[slot] = held[last];
        }
        rows.set(last, undefined);
        held = held.slice(0, last);
      }
      rows.checkIntegrity();
      const decode = rows.decode(held.length);
      assertEquals(decode === undefined, held.every((lora) => lora === undefined));
      if (decode !== undefined) {
        assertEquals(met(tiny, rows, decode, held.length, loras), held.map(wanted));
      }
      const slot = Math.floor(random() * SLOTS);
      const prompt = rows.prompt(slot, 3);
      assertEquals(prompt === undefined, held[slot] === undefined);
      if (prompt === undefined) continue;
      assertEquals(met(tiny, rows, prompt, 3, loras), [0, 1, 2].map(() => wanted(held[slot])));
      for (const { pieces } of prompt.meetings) assertLessOrEqual(pieces, 8, "its own alone");
    }
    rows.release();
  }
});

Deno.test("every slot may have a LoRA of the highest rank, and others right after", async () => {
  using tiny = await Tiny.open("llama");
  const { config } = tiny.base;
  const rows = new LoraRows(DEVICE, config, SLOTS);
  rows.open(MODULES);
  for (let turn = 0; turn < 3; turn++) {
    for (let slot = 0; slot < SLOTS; slot++) {
      const lora = randomLora(config, { modules: MODULES, rank: 64, seed: turn * SLOTS + slot });
      rows.set(slot, tiny.base.residentLora(lora));
    }
    const pieces = rows.decode(SLOTS)?.meetings.map((meeting) => meeting.pieces);
    assertEquals(pieces, [1, 1, 1, 1].map(() => 8 * SLOTS));
  }
  rows.release();
});
