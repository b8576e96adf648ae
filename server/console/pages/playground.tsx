/**
 * One prompt, answered by two models side by side. The answers come from the chat endpoint as
 * requests of the visitor, so they are limited and counted.
 */
import type { AppContext } from "../../context.ts";
import { validated } from "../../http/endpoint.ts";
import { checkScope } from "../../access/access.ts";
import { answerChat } from "../../http/routes/chat.ts";
import { samplingBody } from "../../generate/plan.ts";
import { chatRequestSchema } from "../../http/schema/chat.ts";
import type { ConsoleApp, Desk } from "../desk.ts";
import { Card, Field, FormToken, Page } from "../parts.tsx";

const SIDES = ["left", "right"] as const;
type Side = typeof SIDES[number];

/** Models offered by name at most; others can be typed. */
const MOST_MODELS = 500;

/** What the form says. */
interface Asked {
  readonly prompt: string;
  readonly left: string;
  readonly right: string;
  readonly maxTokens: number;
  readonly temperature: number;
}

export function registerPlayground(app: ConsoleApp, desk: Desk): void {
  app.get("/playground", async (c) => {
    const base = desk.server.model.id;
    const { left = base, right = base } = c.req.query();
    const { temperature } = samplingBody(desk.server.model.sampling);
    const asked = { prompt: "", left, right, maxTokens: 128, temperature };
    return c.html(await page(c, desk, asked, undefined));
  });
  app.post("/playground", async (c) => {
    const asked = readForm(await desk.gate.form(c));
    checkScope(c.get("principal"), ["infer"]);
    const answers = await Promise.all(SIDES.map((side) => whole(c, desk, asked, side)));
    return c.html(await page(c, desk, asked, answers));
  });
  app.post("/playground/answer", async (c) => {
    const form = await desk.gate.form(c);
    checkScope(c.get("principal"), ["infer"]);
    const side = SIDES.find((one) => one === form.get("side")) ?? "left";
    return await ask(c, desk, readForm(form), { side, stream: true });
  });
}

function readForm(form: FormData): Asked {
  const text = (name: string) => String(form.get(name) ?? "");
  return {
    prompt: text("prompt"),
    left: text("left"),
    right: text("right"),
    maxTokens: Number(text("max_tokens")),
    temperature: Number(text("temperature")),
  };
}

function ask(
  c: AppContext,
  desk: Desk,
  asked: Asked,
  { side, stream }: { readonly side: Side; readonly stream: boolean },
): Promise<Response> {
  const body = validated(chatRequestSchema, {
    model: asked[side],
    messages: [{ role: "user", content: asked.prompt }],
    max_tokens: asked.maxTokens,
    temperature: asked.temperature,
    stream,
    ...(stream && { stream_options: { include_usage: true } }),
  });
  return answerChat(desk.server, c, body);
}

interface Answer {
  readonly text: string;
  readonly note: string;
}

/** For browsers without scripts: the answer, or what went wrong with it. */
async function whole(c: AppContext, desk: Desk, asked: Asked, side: Side): Promise<Answer> {
  const begun = performance.now();
  try {
    const response = await ask(c, desk, asked, { side, stream: false });
    const { choices, usage } = await response.json();
    const seconds = ((performance.now() - begun) / 1000).toFixed(2);
    return {
      text: choices[0].message.content,
      note: `${usage.completion_tokens} tokens after ${seconds} s`,
    };
  } catch (error) {
    return { text: "", note: error instanceof Error ? error.message : String(error) };
  }
}

async function page(
  c: AppContext,
  desk: Desk,
  asked: Asked,
  answers: readonly Answer[] | undefined,
) {
  const frame = desk.frame(c);
  const adapters = await desk.server.adapters.list(desk.scope(c));
  const models = [desk.server.model.id, ...new Set(adapters.map(({ name }) => name))];
  return (
    <Page frame={frame} title="Playground">
      <div class="head">
        <div>
          <h1>Playground</h1>
          <p class="lead">One prompt, two models, the same batch</p>
        </div>
      </div>
      <form method="post" action="/console/playground" data-playground="">
        <FormToken frame={frame} />
        <Card title="Prompt">
          <Ask asked={asked} hint={`All else is the model's own: ${others(desk)}`} />
        </Card>
        <datalist id="models">
          {models.slice(0, MOST_MODELS).map((name) => <option value={name}></option>)}
        </datalist>
        <div class="panes">
          {SIDES.map((side, i) => <Pane side={side} model={asked[side]} answer={answers?.[i]} />)}
        </div>
      </form>
    </Page>
  );
}

/** Settings of the request that the form does not ask for. */
function others({ server }: Desk): string {
  const { temperature: _, ...rest } = samplingBody(server.model.sampling);
  return Object.entries(rest).filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${value}`).join(", ");
}

function Ask({ asked, hint }: { readonly asked: Asked; readonly hint: string }) {
  return (
    <>
      <div class="field">
        <label class="hidden" for="field-prompt">Prompt</label>
        <textarea
          id="field-prompt"
          name="prompt"
          required
          placeholder="What is a lichen?"
          aria-describedby="field-prompt-hint"
        >
          {asked.prompt}
        </textarea>
        <p class="hint" id="field-prompt-hint">Ctrl+Enter asks</p>
      </div>
      <div class="form-grid">
        <Field
          label="Most tokens"
          name="max_tokens"
          type="number"
          min={1}
          value={asked.maxTokens}
          required
        />
        <Field
          label="Temperature"
          name="temperature"
          type="number"
          step="any"
          min={0}
          value={asked.temperature}
          required
        />
      </div>
      <p class="hint">{hint}</p>
      <div class="actions">
        <button type="submit">Ask both</button>
        <button class="plain" type="button" data-stop="">Stop</button>
      </div>
    </>
  );
}

interface PaneOptions {
  readonly side: Side;
  readonly model: string;
  readonly answer: Answer | undefined;
}

function Pane({ side, model, answer }: PaneOptions) {
  const name = side === "left" ? "Left" : "Right";
  return (
    <section class="card pane" data-pane={side} aria-label={`${name} answer`}>
      <div class="field">
        <label for={`field-${side}`}>{name} model</label>
        <input
          id={`field-${side}`}
          name={side}
          list="models"
          value={model}
          required
          autocomplete="off"
          spellcheck={false}
        />
      </div>
      <output aria-live="polite">{answer?.text ?? ""}</output>
      <p class="note" data-note="">{answer?.note ?? ""}</p>
    </section>
  );
}
