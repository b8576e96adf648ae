/** What a fake base's config says where it differs from Llama's in nothing. */
import { PLAIN_FORM, plainScale } from "../../src/checkpoint/architectures/architecture.ts";
import type { DecoderConfig, DecoderForm } from "../../src/checkpoint/checkpoint.ts";
import { unscaled } from "../../src/checkpoint/rope_config.ts";

export function plainForm(
  headDim: number,
): DecoderForm & Pick<DecoderConfig, "ropes" | "layers" | "attentionScale"> {
  return {
    ...PLAIN_FORM,
    ropes: [unscaled(10_000, headDim)],
    layers: [{ rope: 0, window: undefined }],
    attentionScale: plainScale(headDim),
  };
}
