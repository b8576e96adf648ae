// deno-lint-ignore-file camelcase -- names of the wire format
/** `POST /v1/embeddings`: a vector for each text, in OpenAI's shape. */
import type { Framed } from "../../../src/checkpoint/encoder/frame.ts";
import { isText, stringOf, type Text } from "../../../src/checkpoint/text/prompt.ts";
import { normalised } from "../../../src/models/encoder/after_pooling.ts";
import type { App, AppContext, ServedEncoder, ServerContext } from "../../context.ts";
import { encoderOf } from "../../encode/encoder.ts";
import { encode, inTurns } from "../../encode/run.ts";
import { lengthOf, refuseLong } from "../../encode/lengths.ts";
import { invalid } from "../../errors.ts";
import { baseName, resolveTarget } from "../../generate/model_name.ts";
import { checkTokenIds } from "../../generate/plan.ts";
import { post } from "../endpoint.ts";
import { embeddingListSchema, type EmbeddingRequest, embeddingRequestSchema } from "./schema.ts";

export function registerEmbeddings(app: App, context: ServerContext): void {
  post(app, {
    method: "post",
    path: "/v1/embeddings",
    tag: "embeddings",
    summary: "A vector for each text.",
    body: embeddingRequestSchema,
    lenient: true,
    ok: { description: "The vectors, in the order of the texts.", json: embeddingListSchema },
    errors: [429],
    scopes: ["infer"],
  }, (c, body) => answer(context, c, body));
}

async function answer(
  context: ServerContext,
  c: AppContext,
  body: EmbeddingRequest,
): Promise<Response> {
  const model = body.model ?? baseName(context.model);
  c.get("notes").model = model;
  const target = await resolveTarget(context, c.get("principal"), model, body.adapter);
  const encoder = encoderOf(context, target, "vectors");
  const { dimensions } = body;
  if (dimensions && dimensions > encoder.dimensions) {
    target[Symbol.dispose]();
    throw invalid(
      "dimensions",
      `Invalid 'dimensions': ${dimensions} is more than the ${encoder.dimensions} that this ` +
        "model's vectors have.",
    );
  }
  const texts = () => framed(context, encoder, body);
  const { vectors, tokens } = await encode(context, c, encoder, target, model, texts);
  const data = await inTurns(vectors, (vector, index) => ({
    object: "embedding" as const,
    index,
    embedding: told(shortened(encoder.finish(vector), dimensions), body.encoding_format),
  }));
  const usage = { prompt_tokens: tokens, total_tokens: tokens };
  return c.json({ object: "list" as const, data, model, usage });
}

async function framed(
  { model: { vocabSize } }: ServerContext,
  encoder: ServedEncoder,
  body: EmbeddingRequest,
): Promise<readonly Framed[]> {
  const { input } = body;
  const list = isText(input) || isIds(input) ? [input] : input;
  const alone = list.length === 1 && list[0] === input;
  const most = lengthOf(body, encoder.maxTokens);
  return await inTurns<Text | readonly number[], Framed>(list, (one, index) => {
    const param = alone ? "input" : `input[${index}]`;
    if (!isText(one)) {
      checkTokenIds(param, one, vocabSize);
      refuseLong(param, one.length, most, body);
      return plain(one.slice(0, most));
    }
    const bare = body.add_special_tokens === false;
    const tokens = encoder.tokens(stringOf(one), most);
    refuseLong(param, tokens.length + (bare ? 0 : encoder.special("single")), most, body);
    const text = bare ? plain(tokens.slice(0, most)) : encoder.frameOne(tokens, most);
    if (text.ids.length > 0) return text;
    throw invalid(param, `Invalid '${param}': the text has no tokens.`);
  });
}

function isIds(input: Exclude<EmbeddingRequest["input"], Text>): input is number[] {
  return typeof input[0] === "number";
}

function plain(ids: readonly number[]): Framed {
  return { ids, types: ids.map(() => 0) };
}

function shortened(vector: Float32Array, dimensions: number | null | undefined): Float32Array {
  return dimensions ? normalised(vector.slice(0, dimensions)) : vector;
}

function told(vector: Float32Array, format: EmbeddingRequest["encoding_format"]) {
  if (format !== "base64") return Array.from(vector);
  return new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength).toBase64();
}
