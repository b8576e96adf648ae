// deno-lint-ignore-file camelcase -- the field names are config.json's

/** `config.json` as a decoder's config: defaults, variants and refusals. */

import { assertEquals, assertThrows } from "@std/assert";
import { decoderConfig } from "../../src/checkpoint/config.ts";
import { widestWindow } from "../../src/checkpoint/layers.ts";

const LLAMA = {
  model_type: "llama",
  architectures: ["LlamaForCausalLM"],
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 4,
  num_attention_heads: 4,
};
function windowsOf(config: Record<string, unknown>) {
  return decoderConfig(config).layers.map(({ window }) => window);
}

const QWEN2 = { ...LLAMA, model_type: "qwen2", architectures: ["Qwen2ForCausalLM"] };

Deno.test("what a config leaves out is what transformers' class says", () => {
  const llama = decoderConfig(LLAMA);
  assertEquals(llama.numKvHeads, 4);
  assertEquals(llama.headDim, 16);
  assertEquals(llama.maxPositions, 2048);
  assertEquals(llama.rmsNormEps, 1e-6);
  const [rope] = llama.ropes;
  assertEquals(rope, { theta: 10_000, scaling: { type: "none" }, turned: 16, interleaved: false });
  assertEquals([llama.bosTokenId, llama.eosTokenIds], [1, [2]]);
  assertEquals([llama.tieEmbeddings, llama.qkvBias, llama.qkNorm], [false, false, "none"]);
  const qwen3 = decoderConfig({ ...LLAMA, model_type: "qwen3", num_key_value_heads: 2 });
  assertEquals([qwen3.headDim, qwen3.qkNorm, qwen3.qkvBias], [128, "heads", false]);
  assertEquals(qwen3.bosTokenId, undefined);
  const mistral = decoderConfig({ ...LLAMA, model_type: "mistral", num_key_value_heads: 4 });
  assertEquals(widestWindow(mistral), 4096);
});

Deno.test("biases are where each architecture has them", () => {
  const bias = decoderConfig({ ...LLAMA, attention_bias: true });
  assertEquals([bias.qkvBias, bias.outputBias], [true, true]);
  const qwen2 = decoderConfig({ ...QWEN2, num_key_value_heads: 2 });
  assertEquals([qwen2.qkvBias, qwen2.outputBias], [true, false]);
});

Deno.test("end tokens of generation_config count too, and null is absent", () => {
  const config = decoderConfig({ ...LLAMA, eos_token_id: 7, bos_token_id: null }, {
    eos_token_id: [7, 9],
  });
  assertEquals(config.eosTokenIds, [7, 9]);
  assertEquals(config.bosTokenId, undefined);
});

Deno.test("a sliding window is that of the layers that have it", () => {
  const qwen = { ...QWEN2, num_key_value_heads: 2, sliding_window: 32, max_window_layers: 0 };
  assertEquals(windowsOf(qwen), [undefined]);
  assertEquals(windowsOf({ ...qwen, use_sliding_window: true }), [32]);
  const mixed = { ...qwen, use_sliding_window: true, max_window_layers: 3 };
  assertEquals(windowsOf(mixed), [undefined, undefined, undefined, 32]);
  const odd = { ...mixed, layer_types: Array(4).fill("chunked_attention") };
  assertThrows(() => decoderConfig(odd), TypeError, "layer_types has 'chunked_attention'");
  const full = { ...mixed, layer_types: Array(4).fill("full_attention") };
  assertEquals(windowsOf(full), [undefined]);
  const wide = { ...mixed, sliding_window: 1 << 20 };
  assertEquals(windowsOf(wide), [undefined]);
});

Deno.test("an unknown architecture is refused by name", () => {
  assertThrows(
    () => decoderConfig({ ...LLAMA, model_type: "gpt2" }),
    TypeError,
    "Cannot load architecture 'gpt2': supported are llama, mistral, qwen2, qwen3",
  );
  assertThrows(
    () => decoderConfig({ ...LLAMA, architectures: ["LlamaForSequenceClassification"] }),
    TypeError,
    "LlamaForSequenceClassification",
  );
});

Deno.test("variants that the decoder cannot compute are refused by name", () => {
  const refused: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ hidden_act: "gelu" }, "gelu"],
    [{ mlp_bias: true }, "mlp_bias"],
    [{ attn_logit_softcapping: 50 }, "attn_logit_softcapping must be absent"],
    [{ final_logit_softcapping: 30 }, "final_logit_softcapping must be absent"],
    [{ quantization_config: { quant_method: "gptq" } }, "quantization_config"],
    [{ rope_scaling: { rope_type: "longrope" } }, "short_factor is missing"],
    [{ rope_scaling: { type: "dynamic", factor: 2 } }, "dynamic"],
    [{ partial_rotary_factor: 0.5 }, "partial_rotary_factor"],
    [{ head_dim: 15 }, "15"],
    [{ num_key_value_heads: 3 }, "3 key-value heads"],
  ];
  for (const [change, message] of refused) {
    assertThrows(() => decoderConfig({ ...LLAMA, ...change }), TypeError, message);
  }
});

Deno.test("fields of the wrong type are refused by name", () => {
  const wrong: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ hidden_size: "64" }, "hidden_size"],
    [{ hidden_size: undefined }, "hidden_size is missing"],
    [{ num_hidden_layers: -1 }, "num_hidden_layers"],
    [{ vocab_size: 1.5 }, "vocab_size"],
    [{ eos_token_id: ["a"] }, "eos_token_id"],
    [{ tie_word_embeddings: 1 }, "tie_word_embeddings"],
    [{ architectures: "x" }, "architectures"],
    [{ rope_scaling: 4 }, "rope_scaling"],
  ];
  for (const [change, message] of wrong) {
    assertThrows(() => decoderConfig({ ...LLAMA, ...change }), TypeError, message);
  }
  assertThrows(() => decoderConfig([]), TypeError, "config.json");
});
