// deno-lint-ignore-file camelcase -- names of the wire format
/** What tests of batches share: files of requests, and how batches end. */
import type OpenAI from "openai";

export type Batch = OpenAI.Batches.Batch;

/** One line of an output or error file. */
export interface AnswerLine {
  readonly id: string;
  readonly custom_id: string;
  readonly response: {
    readonly status_code: number;
    readonly request_id: string;
    // deno-lint-ignore no-explicit-any -- a body is its endpoint's
    readonly body: any;
  } | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

const URL = "/v1/completions";

/** A line that asks for a completion; `more` overrides fields of its body. */
export function line(id: string, more: object = {}, head: object = {}): string {
  const body = { model: "tiny", prompt: `say ${id}`, max_tokens: 4, temperature: 0, ...more };
  return JSON.stringify({ custom_id: id, method: "POST", url: URL, body, ...head });
}

/** So many lines: `r0`, `r1` … */
export function lines(count: number, more: object = {}): string[] {
  return Array.from({ length: count }, (_, i) => line(`r${i}`, more));
}

/** Uploads requests and creates a batch of them. */
export async function createBatch(
  client: OpenAI,
  requests: readonly string[],
  more: Partial<OpenAI.Batches.BatchCreateParams> = {},
): Promise<Batch> {
  const file = new File([requests.map((request) => `${request}\n`).join("")], "in.jsonl");
  const { id } = await client.files.create({ file, purpose: "batch" });
  return await client.batches.create({
    input_file_id: id,
    endpoint: URL,
    completion_window: "24h",
    ...more,
  });
}

/** Asks until a batch satisfies the condition. */
export async function batchThat(
  client: OpenAI,
  id: string,
  condition: (batch: Batch) => boolean,
): Promise<Batch> {
  for (;;) {
    const batch = await client.batches.retrieve(id);
    if (condition(batch)) return batch;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export function ended({ status }: Batch): boolean {
  return ["failed", "completed", "expired", "cancelled"].includes(status);
}

/** The lines of a file that a batch has made; none where there is no file. */
export async function answers(
  client: OpenAI,
  file: string | null | undefined,
): Promise<AnswerLine[]> {
  if (!file) return [];
  const text = await (await client.files.content(file)).text();
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}
