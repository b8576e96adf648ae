/** What an encoder answers where a request wants a text written: which endpoints there are instead. */
import type { App, ServerContext } from "../../context.ts";
import { ApiError } from "../../errors.ts";
import { baseName } from "../../generate/model_name.ts";

/** Paths of models that write. */
const GENERATION = [
  "/v1/chat/completions",
  "/v1/chat/completions/*",
  "/v1/completions",
  "/v1/messages",
  "/v1/messages/*",
  "/v1/responses",
  "/v1/responses/*",
  "/v1/conversations",
  "/v1/conversations/*",
  "/invocations",
  "/completion",
  "/apply-template",
  "/generate",
  "/generate_stream",
] as const;

export function refuseGeneration(app: App, context: ServerContext): void {
  for (const path of GENERATION) {
    app.all(path, () => {
      throw new ApiError(
        400,
        `'${baseName(context.model)}' is an encoder and writes no texts: it answers ` +
          `${context.encoder?.labels === undefined ? "/v1/embeddings" : "/v1/rerank"}.`,
        { code: "unsupported_endpoint" },
      );
    });
  }
}
