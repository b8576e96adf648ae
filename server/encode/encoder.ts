/** The encoder that a request is for, or why there is none. */
import type { ServedEncoder, ServerContext } from "../context.ts";
import { ApiError } from "../errors.ts";
import { baseName, type Target } from "../generate/model_name.ts";

/**
 * The encoder that is served; a target that has none is given back.
 * @throws {ApiError} 400 where the server has a model that writes
 */
export function encoderOf(context: ServerContext, target: Target): ServedEncoder {
  if (context.encoder !== undefined) return context.encoder;
  target[Symbol.dispose]();
  throw new ApiError(
    400,
    `'${baseName(context.model)}' writes texts and gives no vectors: serve an encoder ` +
      "(--model) for this endpoint, or use /v1/chat/completions.",
    { code: "unsupported_endpoint" },
  );
}
