// deno-lint-ignore-file no-console -- the measured numbers belong in the test's output

/** LoRAs over the default model against PEFT's merged weights: `tests/fixtures/models/loras.py`. */
import { assert, assertGreater, assertLess } from "@std/assert";
import { Lembas } from "../../adapters/lembas.ts";
import { float32Tensor, writeSafetensors } from "../../src/checkpoint/formats/safetensors.ts";
import type { TokenLogprob } from "../../src/engine/request/request.ts";
import { DEFAULT_SAMPLING } from "../../src/engine/request/sampling.ts";
import type { ModuleName } from "../../src/models/hook.ts";
import { Expected } from "../models/expected.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url);
const EXPECTED = new Expected(new URL("models/smollm2/loras.safetensors", FIXTURES));
const IDS = new Expected(new URL("models/smollm2/reference.safetensors", FIXTURES))
  .integers("ids").slice(0, 64);
const TOP = 20;
const LAYERS = 30;
/**
 * Of log probabilities, whose sums are float32's: without a LoRA, PyTorch's own are as far from its
 * float64 over these tokens (3e-4).
 */
const TOLERANCE = 3e-4;

/** Inputs and outputs of the default model's linears, in the order in which PEFT meets them. */
const LINEARS: readonly [module: ModuleName, part: string, inputs: number, outputs: number][] = [
  ["q_proj", "self_attn", 576, 576],
  ["k_proj", "self_attn", 576, 192],
  ["v_proj", "self_attn", 576, 192],
  ["o_proj", "self_attn", 576, 576],
  ["gate_proj", "mlp", 576, 1536],
  ["up_proj", "mlp", 576, 1536],
  ["down_proj", "mlp", 1536, 576],
];

const CASES = {
  attention: { r: 16, lora_alpha: 32, target_modules: ["q_proj", "v_proj"] },
  everywhere: {
    r: 8,
    lora_alpha: 8,
    target_modules: LINEARS.map(([module]) => module),
    use_rslora: true,
  },
};
type Case = keyof typeof CASES;

/** Uniform in ±bound by hashing each element's place, as `loras.py` has it. */
function values(length: number, seed: number, bound: number): Float32Array {
  const mixed = (x: number) => Math.imul(x ^ (x >>> 16), 0x45d9f3b);
  return Float32Array.from({ length }, (_, i) => {
    const x = mixed(mixed(Math.imul(i, 2654435761) + seed));
    return (((x ^ (x >>> 16)) >>> 0) / 2 ** 31 - 1) * bound;
  });
}

/** The adapter as PEFT would save it. */
async function writePeft(directory: string, name: Case): Promise<void> {
  const config = CASES[name];
  const targets: readonly string[] = config.target_modules;
  let seed = 0;
  const tensors = Array.from(
    { length: LAYERS },
    (_, layer) =>
      LINEARS.filter(([module]) => targets.includes(module)).flatMap(([module, part, from, to]) => {
        const at = `base_model.model.model.layers.${layer}.${part}.${module}`;
        const a = values(config.r * from, seed++, Math.sqrt(3 / from));
        const b = values(to * config.r, seed++, 0.05);
        return [
          [`${at}.lora_A.weight`, float32Tensor([config.r, from], a)],
          [`${at}.lora_B.weight`, float32Tensor([to, config.r], b)],
        ] as const;
      }),
  ).flat();
  await Deno.mkdir(`${directory}/${name}`);
  await Deno.writeFile(`${directory}/${name}/adapter_model.safetensors`, writeSafetensors(tensors));
  const json = JSON.stringify({ peft_type: "LORA", task_type: "CAUSAL_LM", ...config });
  await Deno.writeTextFile(`${directory}/${name}/adapter_config.json`, json);
}

/** The likeliest tokens after each of the fixture's ids but the last, with their log probabilities. */
async function likeliest(lembas: Lembas, name?: Case): Promise<readonly TokenLogprob[]> {
  const generation = lembas.engine.generate({
    ...{ id: name ?? "base", tenant: "default", prompt: IDS, n: 1, priority: 0 },
    promptLogprobs: TOP,
    signal: undefined,
    adapter: name === undefined ? undefined : lembas.registry.resolve(name),
    sampling: { ...DEFAULT_SAMPLING, maxTokens: 0 },
  });
  for await (const _ of generation);
  return generation.promptLogprobs ?? [];
}

/** The largest difference to PEFT's log probabilities: the twentieth may be another token here. */
function worst(found: readonly TokenLogprob[], name: Case): number {
  const tokens = EXPECTED.integers(`${name}.tokens`);
  const logprobs = EXPECTED.floats(`${name}.logprobs`);
  const distances = found.flatMap(({ top }, at) => {
    const wanted = new Map(
      tokens.slice(at * TOP, (at + 1) * TOP).map((token, i) => [token, logprobs[at * TOP + i]]),
    );
    return top.slice(0, TOP / 2).flatMap(({ token, logprob }) => {
      const other = wanted.get(token);
      return [Math.abs(logprob - (other ?? -Infinity))];
    });
  });
  return distances.reduce((most, one) => Math.max(most, one), 0);
}

Deno.test("a LoRA over the default model gives what the weights that PEFT merged give", async () => {
  const directory = await Deno.makeTempDir();
  try {
    for (const name of ["attention", "everywhere"] as const) await writePeft(directory, name);
    await using lembas = await Lembas.load({
      ...{ dtype: "fp32", maxBatch: 2, maxContext: 128, kvMemory: 2 ** 26 },
      adapters: directory,
    });
    const base = await likeliest(lembas);
    for (const name of ["attention", "everywhere"] as const) {
      const found = await likeliest(lembas, name);
      assert(found.length === IDS.length - 1);
      const distance = worst(found, name);
      console.log(`${name}: largest difference to PEFT's log probabilities: ${distance}`);
      assertLess(distance, TOLERANCE, name);
      assertGreater(worst(base, name), 0.5, `${name} must change the base to be seen`);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
