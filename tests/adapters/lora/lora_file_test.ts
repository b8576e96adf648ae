// deno-lint-ignore-file camelcase -- fields of PEFT's config
/** LoRAs as PEFT saved them, as lembas keeps them, and what is refused on the way. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertThrows } from "@std/assert";
import { checkLora, isLoraFile, readLora, writeLora } from "../../../adapters/lora/lora_file.ts";
import {
  type PeftFiles,
  peftLinears,
  readPeftDirectory,
} from "../../../adapters/lora/peft_files.ts";
import { stackOf, weightName } from "../../../adapters/lotr/stack.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import {
  parseSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../../src/checkpoint/formats/safetensors.ts";
import { digestOf } from "../small.ts";

const FIXTURES = "tests/fixtures/loras";
const CASES = ["plain", "every", "regex", "layers"];

const checkpoint = await openCheckpoint("tests/fixtures/models/llama");
const STACK = stackOf(digestOf("b"), checkpoint.config);
checkpoint.close();

async function fileOf(name: string): Promise<Uint8Array<ArrayBuffer>> {
  return writeLora(peftLinears(await readPeftDirectory(`${FIXTURES}/${name}`)), STACK);
}

/** A directory's files with other fields, and its tensors changed. */
async function changed(
  fields: Record<string, unknown>,
  change: (name: string, tensor: SafetensorsTensor) => [string, SafetensorsTensor][] = (n, t) => [[
    n,
    t,
  ]],
): Promise<PeftFiles> {
  const { config, weights } = await readPeftDirectory(`${FIXTURES}/plain`);
  const tensors = [...parseSafetensors(weights).tensors].flatMap(([n, t]) => change(n, t));
  return { config: { ...config as object, ...fields }, weights: writeSafetensors(tensors) };
}

Deno.test("each linear has the rank and the scale that PEFT gives it", async () => {
  for (const name of CASES) {
    const expected = await Deno.readFile(`${FIXTURES}/${name}/expected.safetensors`);
    const text = parseSafetensors(expected).metadata.get("scales") ?? "";
    const wanted = JSON.parse(text) as Record<string, [number, number]>;
    const { linears } = readLora(await fileOf(name));
    const found = linears.map(({ layer, module, rank, scale }) => [
      weightName(layer, module).replace(".weight", ""),
      [rank, scale],
    ]);
    assertEquals(Object.fromEntries(found), wanted, name);
  }
});

Deno.test("a LoRA is read as it was written, in the type in which it came", async () => {
  const types = { plain: "F32", every: "BF16", regex: "F16", layers: "F32" };
  for (const [name, type] of Object.entries(types)) {
    const bytes = await fileOf(name);
    assert(isLoraFile(bytes));
    const dtypes = [...parseSafetensors(bytes).tensors.values()].map(({ dtype }) => dtype);
    assertEquals([...new Set(dtypes)], [type]);
    const { base, linears } = readLora(bytes);
    assertEquals(base, STACK.base);
    const { weights } = await readPeftDirectory(`${FIXTURES}/${name}`);
    const source = parseSafetensors(weights).tensors;
    for (const { layer, module, a, b } of linears) {
      const key = `base_model.model.${weightName(layer, module).replace(".weight", "")}`;
      const at = (half: string) =>
        source.get(`${key}.lora_${half}.weight`)?.shape.reduce((x, y) => x * y);
      assertEquals([a.length, b.length], [at("A"), at("B")]);
    }
  }
});

Deno.test("the same content is the same file, in whatever order its tensors lay", async () => {
  const { config, weights } = await readPeftDirectory(`${FIXTURES}/every`);
  const linears = peftLinears({ config, weights });
  const bytes = writeLora(linears, STACK);
  assertEquals(writeLora(linears.toReversed(), STACK), bytes);
  const twice = { ...config as object, lora_alpha: 10 };
  const other = readLora(writeLora(peftLinears({ config: twice, weights }), STACK));
  assertNotEquals(other.digest, readLora(bytes).digest);
});

Deno.test("a LoRA of another base, or above the rank limit, is refused by what is wrong", async () => {
  const linears = peftLinears(await readPeftDirectory(`${FIXTURES}/every`));
  const narrow = { ...STACK, inputs: { ...STACK.inputs, mlp_mid: 48 } };
  assertThrows(
    () => writeLora(linears, narrow),
    TypeError,
    "down_proj of layer 0 goes 96→64, the base's 48→64",
  );
  assertThrows(
    () => writeLora(linears, { ...STACK, layers: 1 }),
    RangeError,
    "layer 1, the base has 1",
  );
  assertThrows(
    () => writeLora(linears, STACK, { maxRank: 8 }),
    RangeError,
    "down_proj in layer 0 is 10, at most 8",
  );
  const lora = readLora(writeLora(linears, STACK));
  checkLora(lora, STACK);
  assertThrows(
    () => checkLora(lora, { ...STACK, base: digestOf("c") }),
    TypeError,
    "its base is bbbb",
  );
  assertThrows(() => checkLora(lora, STACK, { maxRank: 8 }), RangeError, "--max-lora-rank");
});

Deno.test("a PEFT directory is refused by what lembas cannot serve", async () => {
  const nan = (name: string, tensor: SafetensorsTensor): [string, SafetensorsTensor][] => [[
    name,
    name.includes("1.self_attn.v_proj.lora_B")
      ? { ...tensor, data: new Uint8Array(tensor.data.length).fill(0xFF) }
      : tensor,
  ]];
  const cases: [Promise<PeftFiles>, RegExp][] = [
    [changed({ use_dora: true }), /use_dora \(DoRA\) is true/],
    [changed({ r: 4 }), /config says rank 4/],
    [
      changed({ exclude_modules: ["v_proj"] }),
      /v_proj', which the config's exclude_modules leaves/,
    ],
    [changed({ exclude_modules: ".*1.*q_proj" }), /layers.1.self_attn.q_proj'.*exclude_modules/],
    [changed({ target_modules: ".*q_proj" }), /v_proj', which the config's target_modules/],
    [changed({ target_modules: "(?i).*proj" }), /target_modules: the pattern/],
    [changed({ layers_to_transform: 0 }), /layers.1.*layers_to_transform/],
    [
      changed({ layers_to_transform: [0, 1], layers_pattern: "h" }),
      /layers.0.*layers_to_transform/,
    ],
    [changed({ layers_pattern: "[" }), /layers_pattern/],
    [
      changed({}, (n, t) => n.includes("0.self_attn.q_proj.lora_A") ? [] : [[n, t]]),
      /lora_A is missing/,
    ],
    [changed({}, nan), /layers.1.v_proj.lora_B: element 0 is NaN/],
    [changed({}, (n, t) => [[n.replace("v_proj", "w_proj"), t]]), /w_proj/],
  ];
  for (const [files, text] of cases) {
    const wrong = await files;
    const error = assertThrows(() => writeLora(peftLinears(wrong), STACK), TypeError);
    assertMatch(error.message, text);
  }
  const { config, weights } = await changed({
    layers_to_transform: [0, 1],
    layers_pattern: ["h", "layers"],
  });
  assertEquals(peftLinears({ config, weights }).length, 4);
});

Deno.test("a directory of a pickle is refused with how to convert it", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.copyFile(
      `${FIXTURES}/plain/adapter_config.json`,
      `${directory}/adapter_config.json`,
    );
    await Deno.writeTextFile(`${directory}/adapter_model.bin`, "");
    const error = await readPeftDirectory(directory).then(() => undefined, (error) => error);
    assertMatch(
      String(error),
      /is a pickle.*torch\.load\('adapter_model\.bin', weights_only=True\)/,
    );
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a file that is cut, changed or in another order is refused", async () => {
  const bytes = await fileOf("plain");
  for (let length = 0; length < bytes.length; length += 997) {
    assertThrows(() => readLora(bytes.subarray(0, length)), TypeError);
  }
  const { metadata, tensors } = parseSafetensors(bytes);
  const rewritten = (fields: Record<string, string>) =>
    writeSafetensors(tensors, Object.entries({ ...Object.fromEntries(metadata), ...fields }));
  const cases: [Uint8Array, RegExp][] = [
    [rewritten({ format: "lembas.core/1" }), /lembas\.lora\/1 is wanted/],
    [rewritten({ base: "x" }), /a digest has 64 hex digits/],
    [rewritten({ scales: "{" }), /8 tensors and 0 scales/],
    [rewritten({ scales: '{"layers.0.q_proj":1}' }), /8 tensors and 1 scales/],
    [rewritten({ scales: '{"layers.0.q_proj":null}' }), /scale of 'layers\.0\.q_proj' is null/],
    [rewritten({ scales: '{"layers.0.w":1}' }), /'layers\.0\.w' is no linear/],
    [rewritten({ scales: '{"layers.7.q_proj":1}' }), /has no matrix lora_A/],
    [swapped(bytes), /in another order/],
  ];
  for (const [wrong, text] of cases) {
    assertMatch(assertThrows(() => readLora(wrong), TypeError).message, text);
  }
});

/** The same tensors, with the header's first two fields in the other order. */
function swapped(bytes: Uint8Array): Uint8Array {
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const turned = JSON.stringify(Object.fromEntries(Object.entries(header).reverse()));
  const out = bytes.slice();
  out.set(new TextEncoder().encode(turned.padEnd(length)), 8);
  return out;
}
