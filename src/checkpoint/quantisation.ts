/**
 * What config.json's `quantization_config` says of packed weights: AWQ and GPTQ in 4 bits, FP8. Any
 * other is refused by the name of the field.
 */
import type { Fields } from "./fields.ts";

/** How the linears of a directory of safetensors are packed. */
export type Quantisation =
  /** AutoAWQ's `gemm`: `qweight` [in, out/8], outputs of a word in the order 0 2 4 6 1 3 5 7. */
  | { readonly method: "awq" }
  /** GPTQ: `qweight` [in/8, out]; `qzeros` hold the zero points less `zeroShift`. */
  | { readonly method: "gptq"; readonly zeroShift: 0 | 1 }
  /** `weight` in F8_E4M3; `weight_scale_inv` holds a scale for each block of `block` [out, in]. */
  | { readonly method: "fp8"; readonly block: readonly [number, number] };

/**
 * @param config of config.json
 * @throws {TypeError} naming what is not supported
 */
export function quantisationOf(config: Fields): Quantisation | undefined {
  const fields = config.optionalObject("quantization_config");
  if (fields === undefined) return undefined;
  const method = fields.optionalText("quant_method");
  switch (method) {
    case "awq": {
      refuse("bits", fields.count("bits"), [4]);
      const version = (fields.optionalText("version") ?? "gemm").toLowerCase();
      refuse("version", version, ["gemm"]);
      return { method };
    }
    case "gptq": {
      refuse("bits", fields.count("bits"), [4]);
      const form = fields.optionalText("checkpoint_format") ?? "gptq";
      refuse("checkpoint_format", form, ["gptq", "gptq_v2"]);
      return { method, zeroShift: form === "gptq" ? 1 : 0 };
    }
    case "fp8":
      return { method, block: blockSize(fields) };
    case "compressed-tensors": {
      const format = fields.optionalText("format") ?? "";
      refuse("format", format, ["float-quantized", "naive-quantized"]);
      return { method: "fp8", block: blockSize(fields) };
    }
  }
  throw new TypeError(
    `Cannot load the model: quantization_config.quant_method is ${method}, supported are awq, ` +
      "gptq, fp8 and compressed-tensors (float-quantized); or pass full-precision safetensors " +
      "or a GGUF",
  );
}

/** Refuses a value that is none of those supported. */
function refuse<T extends string | number>(
  name: string,
  value: T,
  supported: readonly T[],
): void {
  if (supported.includes(value)) return;
  throw new TypeError(
    `Cannot load the model: quantization_config.${name} is ${value}, supported are ${
      supported.join(" and ")
    }; or pass full-precision safetensors or a GGUF`,
  );
}

const USUAL_BLOCK = [128, 128] as const;

function blockSize(fields: Fields): readonly [number, number] {
  const [rows = USUAL_BLOCK[0], columns = USUAL_BLOCK[1]] = fields.optionalIds("weight_block_size");
  return [rows, columns];
}
