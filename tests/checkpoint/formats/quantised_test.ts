/**
 * AWQ, GPTQ and FP8 directories: their weights beside what AutoAWQ, AutoGPTQ and PyTorch made of the
 * same tensors (`fixtures/checkpoint/quantised/make.py`), and what is wrong with others.
 */
import { assert, assertEquals, assertGreater, assertLess, assertThrows } from "@std/assert";
import type { Checkpoint, WeightSource } from "../../../src/checkpoint/checkpoint.ts";
import { Fields } from "../../../src/checkpoint/fields.ts";
import {
  parseSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../../src/checkpoint/formats/safetensors.ts";
import { QuantisedWeights } from "../../../src/checkpoint/formats/quantised_weights.ts";
import { SafetensorsWeights } from "../../../src/checkpoint/formats/safetensors_weights.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { type Quantisation, quantisationOf } from "../../../src/checkpoint/quantisation.ts";
import { planOf, type ServingDtype } from "../../../src/executor/base.ts";
import { chooseDtype, linearTypes } from "../../../src/executor/precision.ts";
import { DEVICE } from "../../graph/device.ts";
import { distance } from "../../graph/run.ts";
import { WindowModel } from "../../models/logits.ts";
import { unpack } from "../../unpack.ts";
import { fixture } from "../fixtures.ts";

const KINDS = ["awq", "gptq", "fp8"] as const;
type Kind = typeof KINDS[number];
const TYPES = { awq: "AWQ", gptq: "GPTQ", fp8: "F8_E4M3" } as const;

const TOKENIZER = new URL("../../fixtures/models/llama/", import.meta.url).pathname;

/** The fixture with a tokenizer beside it, as a directory of its own. */
async function withDirectory(
  kind: Kind,
  run: (checkpoint: Checkpoint) => Promise<void> | void,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
      await Deno.copyFile(`${TOKENIZER}${name}`, `${directory}/${name}`);
    }
    for (const name of ["config.json", "model.safetensors"]) {
      await Deno.copyFile(fixture(`quantised/${kind}/${name}`), `${directory}/${name}`);
    }
    using checkpoint = await openCheckpoint(directory, { cache: directory });
    await run(checkpoint);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function valuesOf(kind: Kind): Map<string, Float32Array> {
  const { tensors } = parseSafetensors(
    Deno.readFileSync(fixture(`quantised/${kind}/values.safetensors`)),
  );
  const values = [...tensors].map(([name, { data }]) =>
    [name, new Float32Array(data.slice().buffer)] as const
  );
  return new Map(values);
}

for (const kind of KINDS) {
  Deno.test(`${kind}: weights are bit for bit what its own package reads`, async () => {
    await withDirectory(kind, ({ weights }) => {
      const values = valuesOf(kind);
      assertEquals(values.size, 4);
      for (const [name, wanted] of values) {
        assertEquals(weights.info(name).type, TYPES[kind], name);
        assertEquals(weights.read(name), wanted, name);
        const [, width] = weights.info(name).shape;
        const some = weights.read(name, { rows: { first: 3, count: 2 } });
        assertEquals(some, wanted.subarray(3 * width, 5 * width));
      }
    });
  });

  Deno.test(`${kind}: a directory opens under the usual names and has a digest`, async () => {
    await withDirectory(kind, async (checkpoint) => {
      const { weights } = checkpoint;
      assertEquals(checkpoint.config.numLayers, 1);
      assertEquals(weights.names().filter((name) => !name.endsWith(".weight")), []);
      assertEquals(linearTypes(weights)[0], TYPES[kind]);
      const digest = await checkpoint.digest();
      assertEquals(digest.length, 64);
    });
  });
}

for (const kind of ["awq", "gptq"] as const) {
  Deno.test(`${kind}: kernels get the file's own steps`, async () => {
    await withDirectory(kind, ({ weights }) => {
      for (const [name, wanted] of valuesOf(kind)) {
        const blocks = weights.blocks(name);
        // inputs of a group lie apart there, as desc_act leaves them
        if (kind === "gptq" && name.includes("v_proj")) {
          assertEquals(blocks, undefined);
          continue;
        }
        assert(blocks !== undefined);
        assertEquals([blocks.bits, blocks.size, blocks.offsets], [4, 32, true]);
        assertLess(distance(unpack(blocks, blocks.read()), wanted), 1e-7, name);
      }
    });
  });
}

for (const kind of KINDS) {
  Deno.test(`${kind}: what auto serves gives the logits of float32`, async () => {
    await withDirectory(kind, async (checkpoint) => {
      const ids = Array.from({ length: 24 }, (_, i) => (7 + i * 31) % 128);
      const logitsOf = async (dtype: ServingDtype) => {
        const plan = planOf({ dtype, maxBatch: 1 });
        using model = await WindowModel.compile(DEVICE, checkpoint, plan, ids.length);
        return (await model.logits(ids)).slice();
      };
      const dtype = chooseDtype("auto", checkpoint, 1);
      assertEquals(dtype, kind === "fp8" ? "int8" : "file");
      const wanted = await logitsOf("fp32");
      const served = await logitsOf(dtype);
      const rest = wanted.map((x, i) => x - served[i]);
      assertLess(size(rest) / size(wanted), 0.05);
    });
  });
}

function size(data: Float32Array): number {
  return Math.sqrt(data.reduce((sum, x) => sum + x * x, 0));
}

/** A linear `l` of a fixture, its tensors changed. */
function changed(
  kind: Kind,
  change: (tensors: Map<string, SafetensorsTensor>) => void,
  zeroShift: 0 | 1 = 1,
): { readonly weights: WeightSource; readonly close: () => void } {
  const { tensors } = parseSafetensors(
    Deno.readFileSync(fixture(`quantised/${kind}/model.safetensors`)),
  );
  const prefix = "model.layers.0.self_attn.q_proj.";
  const own = [...tensors].filter(([name]) => name.startsWith(prefix))
    .map(([name, tensor]) => [`l.${name.slice(prefix.length)}`, tensor] as const);
  const map = new Map(own);
  change(map);
  const path = Deno.makeTempFileSync();
  Deno.writeFileSync(path, writeSafetensors(map));
  const source = SafetensorsWeights.open([path]);
  const methods: Record<Kind, Quantisation> = {
    awq: { method: "awq" },
    gptq: { method: "gptq", zeroShift },
    fp8: { method: "fp8", block: [32, 32] },
  };
  const close = () => {
    source.close();
    Deno.removeSync(path);
  };
  return { weights: new QuantisedWeights(source, methods[kind]), close };
}

Deno.test("parts that are missing or of another size are refused by name", () => {
  const tensor = (dtype: SafetensorsTensor["dtype"], shape: number[], bytes: number) => ({
    dtype,
    shape,
    data: new Uint8Array(bytes),
  });
  const cases: readonly (readonly [Kind, string, SafetensorsTensor | undefined, string])[] = [
    ["awq", "l.qzeros", undefined, "qzeros"],
    ["awq", "l.scales", undefined, "scales"],
    ["awq", "l.qzeros", tensor("I32", [1, 8], 32), "qzeros"],
    ["gptq", "l.scales", tensor("F16", [3, 64], 384), "scales"],
    ["gptq", "l.scales", tensor("I16", [2, 64], 256), "I16"],
    ["gptq", "l.g_idx", tensor("I32", [63], 252), "g_idx"],
    ["fp8", "l.weight_scale", undefined, "weight_scale"],
    ["fp8", "l.weight_scale", tensor("F32", [7], 28), "[7]"],
    ["fp8", "l.weight_scale", tensor("I32", [1], 4), "I32"],
  ];
  for (const [kind, name, made, message] of cases) {
    const { weights, close } = changed(kind, (tensors) => {
      if (made === undefined) tensors.delete(name);
      else tensors.set(name, made);
    });
    try {
      assertThrows(() => weights.read("l.weight"), TypeError, message, `${kind} ${name}`);
    } finally {
      close();
    }
  }
});

Deno.test("a group that no scale is of is refused", () => {
  const { weights, close } = changed("gptq", (tensors) => {
    const data = new Uint8Array(Int32Array.from({ length: 64 }, (_, i) => i).buffer);
    tensors.set("l.g_idx", { dtype: "I32", shape: [64], data });
  });
  assertThrows(() => weights.read("l.weight"), TypeError, "g_idx");
  close();
});

Deno.test("zero points all in the middle leave no offsets; GPTQ's second form stores them as they are", () => {
  const forms = [{ zeroShift: 1, stored: 0x77777777 }, {
    zeroShift: 0,
    stored: -0x77777778,
  }] as const;
  for (const own of forms) {
    for (const { stored } of forms) {
      const words = new Uint8Array(new Int32Array(2 * 8).fill(stored).buffer);
      const { weights, close } = changed("gptq", (tensors) => {
        tensors.set("l.qzeros", { dtype: "I32", shape: [2, 8], data: words });
      }, own.zeroShift);
      assertEquals(weights.blocks("l.weight")?.offsets, stored !== own.stored);
      close();
    }
  }
});

Deno.test("quantisations that are not supported are refused by field, value and fix", () => {
  const refused: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ quant_method: "bitsandbytes" }, "bitsandbytes"],
    [{ quant_method: "awq", bits: 3 }, "bits is 3"],
    [{ quant_method: "awq", bits: 4, version: "gemv" }, "version is gemv"],
    [{ quant_method: "gptq", bits: 8 }, "bits is 8"],
    [{ quant_method: "gptq", bits: 4, checkpoint_format: "marlin" }, "marlin"],
    [{ quant_method: "compressed-tensors", format: "pack-quantized" }, "pack-quantized"],
  ];
  for (const [config, message] of refused) {
    const fields = new Fields("config.json", { quantization_config: config });
    const error = assertThrows(() => quantisationOf(fields), TypeError, message);
    assertGreater(error.message.indexOf("quantization_config"), 0);
    assertGreater(error.message.indexOf("GGUF"), 0);
  }
});
