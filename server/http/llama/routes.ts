// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * What llama.cpp's server has beside OpenAI's paths: `/completion`, `/apply-template`, `/props` and
 * the count of a chat's tokens. Its `/tokenize` and `/detokenize` are vLLM's, which take both shapes.
 */
import { type App, type AppContext, askerOf, type ServerContext } from "../../context.ts";
import { collect, noteUsage, streamAnswer } from "../../generate/answer.ts";
import { baseName, resolveTarget } from "../../generate/model_name.ts";
import { encodeChat, samplingBody } from "../../generate/plan.ts";
import { startRun } from "../../generate/run.ts";
import type { TemplateFields } from "../../generate/conversation.ts";
import { get, post } from "../endpoint.ts";
import { counted } from "../routes/tokenize.ts";
import { failedEvent, Telling } from "./answer.ts";
import {
  applyAnswerSchema,
  applyRequestSchema,
  inputTokensSchema,
  llamaAnswerSchema,
  llamaChunkSchema,
  type LlamaRequest,
  llamaRequestSchema,
  propsSchema,
  slotsSchema,
} from "./schema.ts";
import { isSeveral, type LlamaPlan, planLlama } from "./to_run.ts";

export function registerLlama(app: App, context: ServerContext): void {
  const common = {
    method: "post",
    tag: "llama.cpp",
    lenient: true,
    errors: [429],
    scopes: ["infer"],
  } as const;
  post(app, {
    ...common,
    path: "/completion",
    summary: "Continues prompts, in llama.cpp's own shape.",
    body: llamaRequestSchema,
    ok: {
      description: "The completion, a list where there are several prompts, or events.",
      json: llamaAnswerSchema.or(llamaAnswerSchema.array()),
      events: llamaChunkSchema.or(llamaAnswerSchema),
    },
  }, (c, body) => complete(context, c, body));
  post(app, {
    ...common,
    path: "/apply-template",
    summary: "A conversation as the text of its prompt (llama.cpp).",
    body: applyRequestSchema,
    ok: { description: "The prompt.", json: applyAnswerSchema },
  }, async (c, body) => {
    const ids = await chatIds(context, c, body);
    return c.json({ prompt: context.model.tokenizer.decode(ids, { skipSpecialTokens: false }) });
  });
  post(app, {
    ...common,
    path: "/v1/chat/completions/input_tokens",
    summary: "How many tokens a chat has as a prompt (llama.cpp).",
    body: applyRequestSchema,
    ok: { description: "The count.", json: inputTokensSchema },
  }, async (c, body) => c.json({ input_tokens: (await chatIds(context, c, body)).length }));
  registerProps(app, context);
  registerSlots(app, context);
}

/** Through the tokens, so that a long text is not rendered on the event loop. */
function chatIds(
  context: ServerContext,
  c: AppContext,
  body: TemplateFields,
): Promise<readonly number[]> {
  const { model, engine: { maxContext } } = context;
  const caller = { tenant: c.get("principal").tenant, signal: c.req.raw.signal };
  const room = { maxContext, maxTokens: undefined, caller };
  return counted(context, c, () => encodeChat(model, body, room));
}

function registerProps(app: App, { model, engine, options }: ServerContext): void {
  const spelled = (id: number | undefined) =>
    id === undefined ? null : model.tokenizer.tokenText(id);
  get(app, {
    method: "get",
    path: "/props",
    tag: "llama.cpp",
    summary: "The model, its template and its sampling defaults (llama.cpp).",
    ok: { description: "The properties.", json: propsSchema },
    scopes: ["infer"],
  }, (c) => {
    const { max_tokens: most, repetition_penalty: repeat_penalty, ...sampling } = samplingBody(
      model.sampling,
    );
    return c.json({
      default_generation_settings: {
        n_ctx: engine.maxContext,
        params: { ...sampling, repeat_penalty, n_predict: most ?? -1 },
      },
      model_alias: baseName(model),
      model_path: model.root,
      total_slots: slotsOf(options),
      chat_template: model.chatTemplate?.source ?? null,
      bos_token: spelled(model.bosTokenId),
      eos_token: spelled(model.eosTokenIds[0]),
      modalities: { vision: false, audio: false },
      build_info: `lembas ${options.version}`,
    });
  });
}

function slotsOf({ maxBatch = 1 }: ServerContext["options"]): number {
  return maxBatch;
}

function registerSlots(app: App, { engine, options }: ServerContext): void {
  get(app, {
    method: "get",
    path: "/slots",
    tag: "llama.cpp",
    summary: "Which rows of the batch are busy, for administrators and scrapers (llama.cpp).",
    ok: { description: "The rows.", json: slotsSchema },
    open: options.metricsAccess === "open",
  }, (c) => {
    const { running } = engine.stats();
    return c.json(Array.from({ length: slotsOf(options) }, (_, id) => ({
      id,
      n_ctx: engine.maxContext,
      is_processing: id < running,
    })));
  });
}

async function complete(
  context: ServerContext,
  c: AppContext,
  body: LlamaRequest,
): Promise<Response> {
  const name = body.model ?? baseName(context.model);
  c.get("notes").model = name;
  const asked = performance.now();
  const principal = c.get("principal");
  const { tenant } = principal;
  const target = await resolveTarget(context, principal, name, body.adapter);
  const planned = Promise.withResolvers<LlamaPlan>();
  const run = await startRun(context, askerOf(c), target, async (signal) => {
    const plan = await planLlama(context, body, name, { tenant, signal });
    planned.resolve(plan);
    return plan;
  });
  const clock = { asked, first: performance.now() };
  const telling = new Telling(context.model, await planned.promise, body, clock);
  if (body.stream) {
    return streamAnswer(context, c, run, telling.events(run), failedEvent);
  }
  try {
    const samples = await collect(run, run.plan.prompts.length);
    await run.complete();
    noteUsage(c, run.usage());
    const answers = samples.map((sample) => telling.whole(sample, run));
    return c.json(isSeveral(body.prompt) ? answers : answers[0] ?? {});
  } finally {
    run.close();
  }
}
