// deno-lint-ignore-file camelcase -- vLLM's names
/**
 * The reasoning that a model writes before its answer: its marks, by vLLM's names of parsers, and a
 * reader that parts the two as the text grows. Trap: many templates write the first mark themselves, so
 * that the model's text begins inside.
 */

export const REASONING_FORMATS = [
  "qwen3",
  "deepseek_r1",
  "deepseek_v3",
  "glm45",
  "kimi_k2",
  "minimax_m2",
  "mistral",
  "nemotron_v3",
  "olmo3",
  "seed_oss",
  "step3",
] as const;
export type ReasoningFormat = typeof REASONING_FORMATS[number];

/** How a kind of model marks its reasoning. */
export interface ReasoningMarks {
  readonly start: string;
  readonly end: string;
  /** Whether a text that begins without a mark is reasoning, where its prompt does not say. */
  readonly begins: boolean;
}

const THINK = { start: "<think>", end: "</think>", begins: true };

export const REASONING_MARKS: Readonly<Record<ReasoningFormat, ReasoningMarks>> = {
  qwen3: THINK,
  deepseek_r1: THINK,
  deepseek_v3: { ...THINK, begins: false },
  glm45: THINK,
  kimi_k2: THINK,
  minimax_m2: THINK,
  mistral: { start: "[THINK]", end: "[/THINK]", begins: false },
  nemotron_v3: THINK,
  olmo3: THINK,
  seed_oss: { start: "<seed:think>", end: "</seed:think>", begins: true },
  step3: THINK,
};

/** The format that a chat template has; none begins without a mark, as the template alone cannot tell. */
export function reasoningFormatOf(template: string): ReasoningFormat | undefined {
  if (template.includes("[/THINK]")) return "mistral";
  if (template.includes("</seed:think>")) return "seed_oss";
  return template.includes("</think>") ? "deepseek_v3" : undefined;
}

/** What more of a text turned out to be. */
export interface Parted {
  readonly reasoning: string;
  readonly answer: string;
}

export interface ReasoningOptions extends ReasoningMarks {
  /** Texts that begin the answer without the mark, and are of it: what opens a call. */
  readonly openers: readonly string[];
}

/** Blanks around marks that are left out: a model may write them without end. */
const MOST_BLANKS = 64;
const BLANKS_BEHIND = new RegExp(`\\s{0,${MOST_BLANKS}}$`);

/** Reads one text. Blanks around the reasoning are neither's. */
export class ReasoningReader {
  readonly #options: ReasoningOptions;
  #state: "before" | "reasoning" | "between" | "answer" = "before";
  /** What may belong to a mark, or be blanks before one. */
  #held = "";
  /** Whether some of the reasoning has come. */
  #some = false;

  constructor(options: ReasoningOptions) {
    this.#options = options;
  }

  /** Whether the answer has not begun. */
  get open(): boolean {
    return this.#state === "before" ? this.#options.begins : this.#state === "reasoning";
  }

  push(text: string): Parted {
    if (this.#state === "answer") return { reasoning: "", answer: text };
    this.#held += text;
    this.#begin();
    const reasoning = this.#reasoning();
    return { reasoning, answer: this.#answer() };
  }

  /** What was held back, at the text's end. */
  finish(): Parted {
    const held = this.#held;
    this.#held = "";
    return this.open
      ? { reasoning: this.#told(held.trimEnd()), answer: "" }
      : { reasoning: "", answer: this.#state === "between" ? held.trimStart() : held };
  }

  #begin(): void {
    if (this.#state !== "before") return;
    const { start, begins } = this.#options;
    const word = this.#held.trimStart();
    if (word.startsWith(start)) {
      this.#state = "reasoning";
      this.#held = word.slice(start.length);
    } else if (!start.startsWith(word) || this.#held.length > MOST_BLANKS) {
      this.#state = begins ? "reasoning" : "answer";
    }
  }

  #reasoning(): string {
    if (this.#state !== "reasoning") return "";
    const { end, openers } = this.#options;
    const ends = [end, ...openers];
    const found = ends
      .map((mark) => ({ mark, at: this.#held.indexOf(mark) }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at - b.at)[0];
    if (found === undefined) return this.#told(this.#release(ends));
    const { mark, at } = found;
    const reasoning = this.#held.slice(0, at).replace(BLANKS_BEHIND, "");
    this.#state = mark === end ? "between" : "answer";
    this.#held = this.#held.slice(mark === end ? at + mark.length : at);
    return this.#told(reasoning);
  }

  /** Takes off what can be of no mark, nor blanks before one. */
  #release(ends: readonly string[]): string {
    const held = this.#held;
    const longest = Math.max(...ends.map((mark) => mark.length)) - 1;
    let from = Math.max(0, held.length - longest);
    while (!ends.some((mark) => mark.startsWith(held.slice(from)))) from++;
    const sure = held.slice(0, from).replace(BLANKS_BEHIND, "");
    this.#held = held.slice(sure.length);
    return sure;
  }

  #told(text: string): string {
    const told = this.#some ? text : text.trimStart();
    this.#some ||= told !== "";
    return told;
  }

  #answer(): string {
    if (this.#state === "between") {
      this.#held = this.#held.trimStart();
      if (this.#held !== "") this.#state = "answer";
    }
    if (this.#state !== "answer") return "";
    const answer = this.#held;
    this.#held = "";
    return answer;
  }
}
