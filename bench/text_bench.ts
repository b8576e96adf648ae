// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Micro-benches of the way from token to wire: tokenising, detokenising with and without stop
 * strings, a row's sampling parameters, and an event's text. The tokenizer is a small fixture's, so
 * tokenising is to be compared with itself only.
 */
import { type ChoiceWriter, chunkEvents } from "../server/generate/answer.ts";
import { openCheckpoint } from "../src/checkpoint/open.ts";
import { Detokenizer, StopStrings, TokenTexts } from "../src/engine/request/output.ts";
import type { GenerationDelta } from "../src/engine/request/request.ts";
import { DEFAULT_SAMPLING, SampleState } from "../src/engine/request/sampling.ts";

const fixture = new URL("../tests/fixtures/models/llama", import.meta.url);
const { tokenizer } = await openCheckpoint(decodeURIComponent(fixture.pathname));
const TEXT = "One bite is enough for a grown man's journey; one tiny core is enough. ".repeat(8);
const ids = tokenizer.encode(TEXT);
const texts = new TokenTexts(tokenizer);

Deno.bench(`encode ${ids.length} tokens`, { group: "text" }, () => void tokenizer.encode(TEXT));
Deno.bench(`decode ${ids.length} tokens at once`, { group: "text" }, () => {
  tokenizer.decode(ids);
});

Deno.bench(`detokenise ${ids.length} tokens one by one`, { group: "text" }, () => {
  const detokenizer = new Detokenizer(texts, { skipSpecialTokens: true });
  for (const id of ids) detokenizer.push(id);
  detokenizer.finish();
});

Deno.bench(`the same, looking for three stop strings`, { group: "text" }, () => {
  const detokenizer = new Detokenizer(texts, { skipSpecialTokens: true });
  const stops = new StopStrings(["###", "\n\nUser:", "enough!"]);
  for (const id of ids) stops.push(detokenizer.push(id));
  stops.finish();
});

const plain = { seed: 7, sample: 0, prompt: ids, stopTokens: [2], vocabSize: 49_152 };
const SAMPLERS = {
  "greedy": { ...DEFAULT_SAMPLING, temperature: 0 },
  "temperature 1": DEFAULT_SAMPLING,
  "top-p 0.9, top-k 40": { ...DEFAULT_SAMPLING, topP: 0.9, topK: 40 },
  "all three penalties": {
    ...DEFAULT_SAMPLING,
    presencePenalty: 0.5,
    frequencyPenalty: 0.5,
    repetitionPenalty: 1.1,
  },
} as const;
for (const [name, params] of Object.entries(SAMPLERS)) {
  Deno.bench(`64 sampling rows: ${name}`, { group: "sampling rows" }, () => {
    const state = new SampleState({ ...plain, params });
    for (let step = 0; step < 64; step++) {
      state.row(0, undefined);
      state.push(ids[step] ?? 0);
    }
  });
}

const DELTA: GenerationDelta = {
  index: 0,
  text: " journey",
  tokens: [1],
  logprobs: undefined,
  finishReason: undefined,
  stopReason: undefined,
};
const HEAD = {
  id: "cmpl-0",
  object: "text_completion",
  created: 0,
  model: "base",
  system_fingerprint: "f",
} as const;

Deno.bench("64 events of a stream", { group: "events" }, async () => {
  const usage = { prompt_tokens: 1, completion_tokens: 64, total_tokens: 65 };
  const run = {
    plan: {
      id: "cmpl-0",
      kind: "completion" as const,
      model: "base",
      prompts: [[1]],
      sampling: DEFAULT_SAMPLING,
      n: 1,
      priority: 0,
    },
    usage: () => ({ ...usage, prompt_tokens_details: { cached_tokens: 0 } }),
    promptLogprobs: () => undefined,
    times: () => undefined,
    complete: () => Promise.resolve(),
    close: () => {},
    async *[Symbol.asyncIterator]() {
      for (let i = 0; i < 64; i++) yield DELTA;
    },
  };
  const write: ChoiceWriter = ({ text }) => `"text":${JSON.stringify(text)},"logprobs":null`;
  for await (
    const _ of chunkEvents(HEAD, run, { last: true, continuous: false, padded: false }, write)
  );
});
