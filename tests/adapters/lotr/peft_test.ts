/** PEFT LoRAs in and out, against dense products and against files that PEFT itself saved. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertLess,
  assertMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import type { Core } from "../../../adapters/lotr/core.ts";
import { factorsAt, type FactorSet } from "../../../adapters/lotr/factors.ts";
import { decode } from "../../../adapters/lotr/format.ts";
import {
  type Dense,
  dense,
  multiply,
  orthonormal,
  transpose,
} from "../../../adapters/lotr/linalg.ts";
import { gaussianFactors } from "../../../adapters/lotr/make/makers.ts";
import { MergedWeights } from "../../../adapters/lotr/merge.ts";
import { exportPeft } from "../../../adapters/lotr/peft/peft_export.ts";
import { importPeft, LossyImportError } from "../../../adapters/lotr/peft/peft_import.ts";
import type { PeftFiles } from "../../../adapters/lora/peft_files.ts";
import { weightName } from "../../../adapters/lotr/stack.ts";
import {
  float32Tensor,
  parseSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../../src/checkpoint/formats/safetensors.ts";
import { MODULES, SITE_OF } from "../../../src/models/hook.ts";
import { coreLike, maxDifference, smallCore, smallFactors, SmallWeights, STACK } from "../small.ts";

const FIXTURE = new URL("../../fixtures/adapters/peft_lora/", import.meta.url);

function tensorsOf(bytes: Uint8Array): Map<string, Dense> {
  return new Map(
    [...parseSafetensors(bytes).tensors].map(([name, tensor]) => {
      const [rows = 0, columns = 0] = tensor.shape;
      return [name, dense(rows, columns, decode(name, tensor))];
    }),
  );
}

function exported(core: Core, factors: FactorSet): PeftFiles {
  return exportPeft(core, factors, { baseModel: "small" });
}

/** Changes fields of the config and names or content of the tensors. */
function changed(
  files: PeftFiles,
  config: Record<string, unknown>,
  change: (name: string, tensor: SafetensorsTensor) => [string, SafetensorsTensor][] = (n, t) => [[
    n,
    t,
  ]],
): PeftFiles {
  const tensors = [...parseSafetensors(files.weights).tensors];
  return {
    config: { ...files.config as Record<string, unknown>, ...config },
    weights: writeSafetensors(tensors.flatMap(([name, tensor]) => change(name, tensor))),
  };
}

/** s·(A·G·B)ᵀ, [d_out, d_in]: what a merge makes of weights that are zero. */
function deltaWeight(core: Core, factors: FactorSet, name: string): Float32Array {
  const zeros = new SmallWeights();
  const read = zeros.read.bind(zeros);
  zeros.read = (...args: Parameters<typeof read>) => read(...args).fill(0);
  return new MergedWeights(zeros, core, factors).read(name);
}

Deno.test("an exported core adds to each weight exactly what the branch does", () => {
  const factors = smallFactors({ modules: MODULES });
  const core = coreLike(smallCore(factors, 1, 3), { alpha: 4.5 });
  const { config, weights } = exported(core, factors);
  const tensors = tensorsOf(weights);
  const { r, lora_alpha: alpha } = config as { r: number; lora_alpha: number };
  assertEquals(tensors.size, 2 * MODULES.length * STACK.layers);
  for (let layer = 0; layer < STACK.layers; layer++) {
    MODULES.forEach((module) => {
      const prefix = `base_model.model.${weightName(layer, module).replace(".weight", "")}`;
      const a = tensors.get(`${prefix}.lora_A.weight`);
      const b = tensors.get(`${prefix}.lora_B.weight`);
      assert(a !== undefined && b !== undefined, prefix);
      assertEquals([a.rows, b.columns], [3, 3]);
      const delta = multiply(b, a).data.map((value) => value * alpha / r);
      assertLess(maxDifference(delta, deltaWeight(core, factors, weightName(layer, module))), 1e-6);
    });
  }
});

Deno.test("what was exported comes back by projection with nothing lost", () => {
  for (
    const factors of [
      smallFactors({ modules: MODULES }),
      gaussianFactors({ stack: STACK, rank: 4 }),
    ]
  ) {
    const core = smallCore(factors, 1);
    const { core: back, report } = importPeft(exported(core, factors), factors);
    assertLess(report.residual, 1e-9);
    assertEquals(report.linears.length, factors.modules.length * STACK.layers);
    assertLess(maxDifference(back.cores, core.cores), 1e-4);
    assertEquals([back.scale, back.rank], [core.scale, core.rank]);
  }
});

Deno.test("the LoRA's own scale is taken: lora_alpha, rslora and patterns", () => {
  const factors = smallFactors();
  const files = exported(smallCore(factors, 1), factors);
  const at = (config: Record<string, unknown>, layer = 0, module = 0) =>
    importPeft(changed(files, config), factors).core.matrix(layer, module)[0] /
    importPeft(files, factors).core.matrix(layer, module)[0];
  assertAlmostEquals(at({ lora_alpha: 12 }), 3, 1e-5);
  assertAlmostEquals(at({ use_rslora: true }), 2, 1e-5);
  assertAlmostEquals(at({ alpha_pattern: { "q_proj": 8 } }), 2, 1e-5);
  assertAlmostEquals(at({ alpha_pattern: { "q_proj": 8 } }, 0, 1), 1, 1e-5);
  assertAlmostEquals(at({ alpha_pattern: { "layers.1.self_attn.v_proj": 8 } }, 1, 1), 2, 1e-5);
  assertAlmostEquals(at({ alpha_pattern: { "layers.1.self_attn.v_proj": 8 } }, 0, 1), 1, 1e-5);
  assertAlmostEquals(at({ alpha_pattern: { "proj": 8 } }), 1, 1e-5);
});

/** ‖ΔW‖² and the part of it outside the span, by forming everything. */
function bruteForce(delta: Dense, factors: FactorSet | undefined, module: typeof MODULES[number]) {
  const energy = (values: Float64Array) => values.reduce((sum, x) => sum + x * x, 0);
  if (factors === undefined) return { energy: energy(delta.data), kept: 0 };
  const { a, b } = factorsAt(factors, module);
  const left = orthonormal(dense(a.length / factors.rank, factors.rank, a));
  const right = orthonormal(transpose(dense(factors.rank, b.length / factors.rank, b)));
  return {
    energy: energy(delta.data),
    kept: energy(multiply(multiply(transpose(left), transpose(delta)), right).data),
  };
}

Deno.test("a LoRA that PEFT saved is projected as its dense weights would be", () => {
  const read = (name: string) => Deno.readFileSync(new URL(name, FIXTURE));
  const config = JSON.parse(new TextDecoder().decode(read("adapter_config.json")));
  const files = { config, weights: read("adapter_model.safetensors") };
  const deltas = tensorsOf(read("deltas.safetensors"));
  for (const factors of [smallFactors({ rank: 6 }), gaussianFactors({ stack: STACK, rank: 5 })]) {
    const { core, report } = importPeft(files, factors, { allowLossy: true });
    assertEquals(report.linears.length, deltas.size);
    let [total, lost] = [0, 0];
    for (const { layer, module, energy, residual } of report.linears) {
      const delta = deltas.get(weightName(layer, module));
      assert(delta !== undefined);
      const inside = factors.modules.includes(module) ? factors : undefined;
      const wanted = bruteForce(delta, inside, module);
      assertAlmostEquals(energy, wanted.energy, 1e-6 * wanted.energy);
      assertAlmostEquals(residual, 1 - wanted.kept / wanted.energy, 1e-6);
      total += wanted.energy;
      lost += wanted.energy - wanted.kept;
      if (inside === undefined) continue;
      const own = deltaWeight(core, factors, weightName(layer, module));
      const rest = delta.data.reduce((sum, x, i) => sum + (x - own[i]) ** 2, 0);
      assertAlmostEquals(rest / wanted.energy, residual, 1e-5);
    }
    assertAlmostEquals(report.residual, lost / total, 1e-6);
  }
});

Deno.test("a LoRA of which more than 5% is lost is refused, unless the caller takes it", () => {
  const made = smallFactors({ seed: 1 });
  const files = exported(smallCore(made, 1), made);
  const other = smallFactors({ seed: 2 });
  const error = assertThrows(() => importPeft(files, other), LossyImportError);
  assertMatch(error.message, /\d+\.\d% of its energy .*q_proj \d+\.\d%, v_proj/);
  for (const road of ["--lora-modules", "--from-loras", "--teacher", "allow_lossy"]) {
    assertStringIncludes(error.message, road);
  }
  assert(error.report.residual > 0.05);
  assertEquals(importPeft(files, other, { allowLossy: true }).report, error.report);
});

Deno.test("a linear outside the factor set counts wholly as lost", () => {
  const all = smallFactors({ modules: ["q_proj", "v_proj", "o_proj"] });
  const files = exported(smallCore(all, 1), all);
  const { report } = importPeft(files, smallFactors(), { allowLossy: true });
  for (const { module, residual } of report.linears) {
    if (module === "o_proj") assertEquals(residual, 1);
    else assertLess(residual, 1e-9);
  }
  const energy = (only?: string) =>
    report.linears.filter(({ module }) => only === undefined || module === only)
      .reduce((sum, linear) => sum + linear.energy, 0);
  assertAlmostEquals(report.residual, energy("o_proj") / energy(), 1e-9);
});

Deno.test("an untrained LoRA, B = 0, is a zero core and loses nothing", () => {
  const factors = smallFactors();
  const files = exported(smallCore(factors, 1), factors);
  const zero = changed(files, {}, (name, tensor) => [[
    name,
    name.includes("lora_B") ? { ...tensor, data: new Uint8Array(tensor.data.length) } : tensor,
  ]]);
  const { core, report } = importPeft(zero, smallFactors({ seed: 9 }));
  assertEquals(report.residual, 0);
  assert(core.cores.every((value) => value === 0));
});

Deno.test("what is more than a plain LoRA is refused by name", () => {
  const factors = smallFactors();
  const files = exported(smallCore(factors, 1), factors);
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ peft_type: "LOHA" }, /peft_type is "LOHA"/],
    [{ use_dora: true }, /DoRA/],
    [{ bias: "lora_only" }, /bias is "lora_only"/],
    [{ lora_bias: true }, /lora_bias/],
    [{ modules_to_save: ["lm_head"] }, /modules_to_save/],
    [{ fan_in_fan_out: true }, /fan_in_fan_out/],
    [{ trainable_token_indices: [1] }, /trainable_token_indices/],
    [{ layer_replication: [[0, 1]] }, /layer_replication/],
    [{ init_lora_weights: "pissa_niter_4" }, /init_lora_weights/],
    [{ something_new: { on: true } }, /something_new/],
    [{ r: 0 }, /r is 0/],
    [{ r: "4" }, /r is "4"/],
    [{ r: 5 }, /config says rank 5/],
    [{ rank_pattern: { "q_proj": 3 } }, /config says rank 3/],
    [{ rank_pattern: { "(?<=a)q_proj": 4 } }, /rank_pattern's key.*not supported/],
    [{ alpha_pattern: { "q_proj": -1 } }, /positive number/],
    [{ layers_to_transform: [0] }, /layers\.1\..* config's layers_to_transform leaves out/],
    [{ layers_to_transform: ["0"] }, /layers_to_transform/],
    [{ target_modules: ["q_proj"] }, /v_proj', which the config's target_modules leaves out/],
  ];
  for (const [config, text] of cases) {
    const error = assertThrows(() => importPeft(changed(files, config), factors), Error);
    assert(error instanceof TypeError || error instanceof RangeError, String(error));
    assertMatch(error.message, text);
  }
  assertThrows(() => importPeft({ ...files, config: [] }, factors), TypeError, "not an object");
});

Deno.test("tensors that are no linear's LoRA, or half of one, are refused by name", () => {
  const factors = smallFactors();
  const files = exported(smallCore(factors, 1), factors);
  const prefix = "base_model.model.model.layers.0.self_attn.q_proj";
  const one = float32Tensor([4, 16], new Float32Array(64));
  const added = (name: string, tensor = one) =>
    changed(
      files,
      {},
      (n, t) => n === `${prefix}.lora_A.weight` ? [[n, t], [name, tensor]] : [[n, t]],
    );
  const cases: [PeftFiles, RegExp][] = [
    [added("base_model.model.model.embed_tokens.lora_embedding_A"), /an embedding's LoRA/],
    [added("base_model.model.lm_head.lora_A.weight"), /none of a layer's linears/],
    [added("base_model.model.lm_head.weight"), /no LoRA tensor/],
    [added(`${prefix}.lora_magnitude_vector`), /DoRA's magnitude/],
    [added("base_model.model.model.layers.0.mlp.router.lora_A.weight"), /has only one of/],
    [added("base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight"), /has only one of/],
    [
      changed(files, {}, (n, t) => [[n.replace("self_attn.q_proj", "self_attn.w_proj"), t]]),
      /w_proj/,
    ],
    [changed(files, {}, (n, t) => [[n.replace("layers.1.", "layers.2."), t]]), /base's 2/],
    [changed(files, {}, () => []), /no tensors/],
    [
      changed(
        files,
        {},
        (n, t) =>
          n.endsWith("q_proj.lora_A.weight")
            ? [[n, float32Tensor([4, 8], new Float32Array(32))]]
            : [[n, t]],
      ),
      /goes 8→16, the factor set's 16→16/,
    ],
    [
      changed(
        files,
        {},
        (n, t) =>
          n === `${prefix}.lora_A.weight`
            ? [[n, float32Tensor([4, 16], new Float32Array(64).fill(NaN))]]
            : [[n, t]],
      ),
      /element 0 is NaN/,
    ],
    [
      changed(files, {}, (n, t) => [[n, { ...t, dtype: "I32" }]]),
      /dtype is I32/,
    ],
  ];
  for (const [wrong, text] of cases) {
    const error = assertThrows(() => importPeft(wrong, factors), Error);
    assert(error instanceof TypeError || error instanceof RangeError, String(error));
    assertMatch(error.message, text);
  }
  const cut = { ...files, weights: files.weights.subarray(0, files.weights.length - 1) };
  assertThrows(() => importPeft(cut, factors), TypeError);
});

Deno.test("a LoRA in bfloat16 is read as such", () => {
  const factors = smallFactors();
  const core = smallCore(factors, 1);
  const halves = changed(exported(core, factors), {}, (name, tensor) => {
    const bits = new Uint32Array(tensor.data.slice().buffer);
    const data = new Uint8Array(Uint16Array.from(bits, (b) => b >>> 16).buffer);
    return [[name, { ...tensor, dtype: "BF16", data }]];
  });
  const { core: back } = importPeft(halves, factors);
  assertLess(maxDifference(back.cores, core.cores), 0.05);
});

Deno.test("every module's input is the one its branch reads", () => {
  const factors = smallFactors({ modules: MODULES });
  for (const module of MODULES) {
    assertEquals(factorsAt(factors, module).a, factors.a(SITE_OF[module]));
  }
});
