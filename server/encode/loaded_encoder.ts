/** An encoder as the server takes models: what only a model that writes has is left empty. */
import type { EncoderModel } from "../../adapters/encoder_model.ts";
import type { Loaded } from "../loaded.ts";

/** @param source where it came from, for `/v1/models` */
export function encoderLoaded(model: EncoderModel, source: string): Loaded {
  const { checkpoint, engine, registry, directory, dtype, weightTypes, maxRows } = model;
  const { id, tokenizer, config: { vocabSize, maxPositions } } = checkpoint;
  return {
    checkpoint: {
      ...{ id, tokenizer, chatTemplate: undefined },
      config: { vocabSize, maxPositions, bosTokenId: undefined, eosTokenIds: [] },
      digest: () => checkpoint.digest(),
    },
    ...{ engine, registry, directory, dtype, weightTypes, maxBatch: maxRows, encoder: model },
    ...{ source, device: "cpu", sampling: {} },
    close: () => model.close(),
  };
}
