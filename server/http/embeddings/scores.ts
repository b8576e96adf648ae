// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * `/v1/score` and `/v1/rerank`: how well pairs of texts go together, by a cross-encoder that reads both
 * at once, or by the cosine of an encoder's vectors.
 */
import type { Framed } from "../../../src/checkpoint/encoder/frame.ts";
import { isText, stringOf, type Text } from "../../../src/checkpoint/text/prompt.ts";
import { normalised } from "../../../src/models/encoder/after_pooling.ts";
import { unixSeconds } from "../../../src/util/time.ts";
import type { App, AppContext, ServedEncoder, ServerContext } from "../../context.ts";
import { encoderOf } from "../../encode/encoder.ts";
import { type Cutting, lengthOf, refuseLong } from "../../encode/lengths.ts";
import { encode, inTurns } from "../../encode/run.ts";
import { invalid } from "../../errors.ts";
import { completionId } from "../../generate/answer.ts";
import { baseName, resolveTarget } from "../../generate/model_name.ts";
import { post } from "../endpoint.ts";
import {
  rerankListSchema,
  type RerankRequest,
  rerankRequestSchema,
  scoreListSchema,
  type ScoreRequest,
  scoreRequestSchema,
} from "./score_schema.ts";

export function registerScores(app: App, context: ServerContext): void {
  const common = { method: "post", tag: "embeddings", lenient: true } as const;
  const limits = { errors: [429], scopes: ["infer"] } as const;
  for (const path of ["/v1/score", "/score"]) {
    post(app, {
      ...{ ...common, ...limits, path, body: scoreRequestSchema },
      summary: "How well pairs of texts go together.",
      ok: { description: "A score for each pair.", json: scoreListSchema },
    }, (c, body) => score(context, c, body));
  }
  for (const path of ["/v1/rerank", "/rerank", "/v2/rerank"]) {
    post(app, {
      ...{ ...common, ...limits, path, body: rerankRequestSchema },
      summary: "Documents by how well they answer a query, the best first.",
      ok: { description: "The documents' places and scores.", json: rerankListSchema },
    }, (c, body) => rerank(context, c, body));
  }
}

async function score(
  context: ServerContext,
  c: AppContext,
  body: ScoreRequest,
): Promise<Response> {
  const first = listOf(body.text_1 ?? body.queries, "text_1");
  const second = listOf(body.text_2 ?? body.documents, "text_2");
  if (first.length !== 1 && first.length !== second.length) {
    throw invalid(
      "text_1",
      `Invalid 'text_1': it has ${first.length} texts and 'text_2' ${second.length}: ` +
        "one, or as many, are wanted.",
    );
  }
  const pairs = { first, second, names: ["text_1", "text_2"] } as const;
  const { model, scores, usage } = await scored(context, c, body, pairs);
  const data = scores.map((score, index) => ({ index, object: "score" as const, score }));
  const head = { id: completionId("score-"), object: "list" as const, created: unixSeconds() };
  return c.json({ ...head, model, data, usage });
}

async function rerank(
  context: ServerContext,
  c: AppContext,
  body: RerankRequest,
): Promise<Response> {
  const second = body.documents.map((one) => isText(one) ? one : one.text);
  // bytes are gone once they are read
  const told = body.return_documents === false ? undefined : second.map((one) => stringOf(one));
  const pairs = {
    ...{ first: [body.query], second: told ?? second, names: ["query", "documents"] as const },
  };
  const { model, scores, usage } = await scored(context, c, body, pairs);
  const results = scores
    .map((relevance_score, index) => ({
      index,
      ...(told === undefined ? {} : { document: { text: told[index] } }),
      relevance_score,
    }))
    .sort((a, b) => b.relevance_score - a.relevance_score)
    .slice(0, body.top_n || undefined);
  return c.json({ id: completionId("rerank-"), model, usage, results });
}

function listOf(texts: ScoreRequest["text_1"], param: string): readonly Text[] {
  if (texts === undefined || texts === null) {
    throw invalid(param, `Missing required parameter: '${param}'.`, "missing_required_parameter");
  }
  return isText(texts) ? [texts] : texts;
}

/** Texts against others: the first ones are one for all, or one each. */
interface Pairs {
  readonly first: readonly Text[];
  readonly second: readonly Text[];
  readonly names: readonly [string, string];
}

async function scored(
  context: ServerContext,
  c: AppContext,
  body: Cutting & Pick<ScoreRequest, "model" | "adapter">,
  pairs: Pairs,
) {
  const model = body.model ?? baseName(context.model);
  c.get("notes").model = model;
  const target = await resolveTarget(context, c.get("principal"), model, body.adapter);
  const encoder = encoderOf(context, target, "scores");
  const way = encoder.classify === undefined ? byCosine(encoder) : byClassifier(encoder.classify);
  const make = () => way.framed(tokensOf(encoder, pairs, body), pairs.names, encoder, body);
  const { vectors, tokens } = await encode(context, c, encoder, target, model, make);
  const usage = { prompt_tokens: tokens, total_tokens: tokens };
  return { model, scores: way.scores(vectors, pairs), usage };
}

/** Each text's tokens, up to what is kept and a few more. */
async function tokensOf(encoder: ServedEncoder, { first, second }: Pairs, body: Cutting) {
  const most = lengthOf(body, encoder.maxTokens);
  const read = (text: Text) => encoder.tokens(stringOf(text), most);
  return { first: await inTurns(first, read), second: await inTurns(second, read), most };
}

type Tokens = Awaited<ReturnType<typeof tokensOf>>;

/** How scores come of texts. */
interface Way {
  framed(
    tokens: Promise<Tokens>,
    names: Pairs["names"],
    encoder: ServedEncoder,
    body: Cutting,
  ): Promise<readonly Framed[]>;
  scores(vectors: readonly Float32Array[], pairs: Pairs): number[];
}

/** Each pair is one text. */
function byClassifier(classify: NonNullable<ServedEncoder["classify"]>): Way {
  return {
    async framed(tokens, [, name], encoder, body) {
      const { first, second, most } = await tokens;
      return second.map((b, i) => {
        const a = first[first.length === 1 ? 0 : i];
        refuseLong(`${name}[${i}]`, a.length + b.length + encoder.special("pair"), most, body);
        return encoder.framePair(a, b, most);
      });
    },
    scores: (vectors) => vectors.map((vector) => classify(vector)[0]),
  };
}

/** The first texts, then the others. */
function byCosine(encoder: ServedEncoder): Way {
  return {
    async framed(tokens, names, _, body) {
      const { first, second, most } = await tokens;
      const framed = (which: 0 | 1) => (ids: readonly number[], i: number) => {
        refuseLong(`${names[which]}[${i}]`, ids.length + encoder.special("single"), most, body);
        return encoder.frameOne(ids, most);
      };
      return [...first.map(framed(0)), ...second.map(framed(1))];
    },
    scores(vectors, { first, second }) {
      const units = vectors.map((vector) => normalised(encoder.finish(vector)));
      return second.map((_, i) => {
        const [a, b] = [units[first.length === 1 ? 0 : i], units[first.length + i]];
        return a.reduce((sum, value, d) => sum + value * b[d], 0);
      });
    },
  };
}
