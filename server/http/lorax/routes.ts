/**
 * LoRAX's own paths, `/generate` and `/generate_stream`, as text-generation-inference has them: one
 * prompt, and parameters that may name an adapter.
 */
import { type App, type AppContext, askerOf, type ServerContext } from "../../context.ts";
import { outputLimit } from "../../../src/checkpoint/sampling_defaults.ts";
import { modelAsked } from "../../generate/adapter_id.ts";
import { collect, completionId, noteUsage, streamAnswer } from "../../generate/answer.ts";
import { resolveTarget } from "../../generate/model_name.ts";
import { checkLength, encodePrompt, toSampling } from "../../generate/plan.ts";
import { type Run, type RunPlan, startRun } from "../../generate/run.ts";
import type { TextCaller } from "../../generate/text_turns.ts";
import { post } from "../endpoint.ts";
import { failedEvent, LoraxTelling } from "./answer.ts";
import {
  loraxAnswerSchema,
  loraxEventSchema,
  type LoraxParameters,
  type LoraxRequest,
  loraxRequestSchema,
} from "./schema.ts";

export function registerLorax(app: App, context: ServerContext): void {
  const common = {
    method: "post",
    tag: "LoRAX",
    body: loraxRequestSchema,
    lenient: true,
    errors: [429],
    scopes: ["infer"],
  } as const;
  post(app, {
    ...common,
    path: "/generate",
    summary: "Continues a prompt, in LoRAX's own shape.",
    ok: { description: "The text, or events.", json: loraxAnswerSchema, events: loraxEventSchema },
  }, (c, body) => generate(context, c, body));
  post(app, {
    ...common,
    path: "/generate_stream",
    summary: "The same, token by token.",
    ok: { description: "Events.", events: loraxEventSchema },
  }, (c, body) => generate(context, c, { ...body, stream: true }));
}

async function generate(
  context: ServerContext,
  c: AppContext,
  { inputs, parameters, stream }: LoraxRequest,
): Promise<Response> {
  const asked = parameters ?? {};
  const principal = c.get("principal");
  const name = await modelAsked(context, principal, asked);
  c.get("notes").model = name;
  const target = await resolveTarget(context, principal, name, undefined);
  const { tenant } = principal;
  const run = await startRun(
    context,
    askerOf(c),
    target,
    (signal) => planOf(context, { inputs, asked, name }, { tenant, signal }),
  );
  const telling = new LoraxTelling(context.model.tokenizer, asked, run.plan.prompts[0] ?? []);
  if (stream) return streamAnswer(context, c, run, telling.events(run), failedEvent);
  return await whole(c, run, telling);
}

async function whole(c: AppContext, run: Run, telling: LoraxTelling): Promise<Response> {
  try {
    const [sample] = await collect(run, 1);
    await run.complete();
    noteUsage(c, run.usage());
    if (sample === undefined) throw new Error("internal: a run without its sample");
    return c.json(telling.whole(sample));
  } finally {
    run.close();
  }
}

interface Asked {
  readonly inputs: LoraxRequest["inputs"];
  readonly asked: LoraxParameters;
  readonly name: string;
}

async function planOf(
  { model, engine: { maxContext } }: ServerContext,
  { inputs, asked, name }: Asked,
  caller: TextCaller,
): Promise<RunPlan> {
  const maxTokens = outputLimit(asked.max_new_tokens ?? undefined, model.sampling);
  const room = { param: "prompt", maxContext, maxTokens, caller, keep: asked.truncate } as const;
  const prompt = await encodePrompt(model, inputs, true, room);
  checkLength("prompt", prompt, maxContext, maxTokens);
  return {
    ...{ id: completionId("cmpl-"), kind: "completion", model: name, n: 1, priority: 0 },
    prompts: [prompt],
    sampling: toSampling(
      { ...asked, ...drawing(asked), ignore_eos: asked.ignore_eos_token, min_p: 0 },
      { maxTokens, logprobs: 0, model },
    ),
  };
}

/** Greedy, unless something asks for more; what the model's authors advise is not asked for there. */
function drawing(
  { do_sample: asked, temperature, top_k: topK, top_p: topP }: LoraxParameters,
): Pick<LoraxParameters, "temperature" | "top_k" | "top_p" | "repetition_penalty"> {
  const draws = asked === true || (temperature ?? 1) !== 1 || (topK ?? 0) > 0 || (topP ?? 1) < 1;
  return { temperature: draws ? temperature ?? 1 : 0, top_k: topK ?? 0, top_p: topP ?? 1 };
}
