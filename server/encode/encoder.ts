/** The encoder that a request is for, or why there is none. */
import type { ServedEncoder, ServerContext } from "../context.ts";
import { ApiError } from "../errors.ts";
import { baseName, type Target } from "../generate/model_name.ts";

/**
 * The encoder that is served, where it can do what is wanted; a target that has none is given back.
 * @throws {ApiError} 400 where the server has a model that writes, or a classifier
 */
export function encoderOf(
  context: ServerContext,
  target: Target,
  wanted: "vectors" | "scores",
): ServedEncoder {
  const { encoder } = context;
  const fault = faultOf(encoder, wanted);
  if (encoder !== undefined && fault === undefined) return encoder;
  target[Symbol.dispose]();
  const text = `'${baseName(context.model)}' ${fault}.`;
  throw new ApiError(400, text, { code: "unsupported_endpoint" });
}

function faultOf(
  encoder: ServedEncoder | undefined,
  wanted: "vectors" | "scores",
): string | undefined {
  if (encoder === undefined) {
    return "writes texts and gives no vectors: serve an encoder (--model) for this endpoint, or " +
      "use /v1/chat/completions";
  }
  const { labels } = encoder;
  if (labels === undefined || (labels === 1 && wanted === "scores")) return undefined;
  return labels === 1
    ? "is a cross-encoder, which scores pairs of texts: use /v1/rerank or /v1/score"
    : `is a classifier of ${labels} labels: vectors are of encoders, scores of classifiers with one`;
}
